"""The text of `aifw hardware`, in sections, from values alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from aifw.errors import AifwError
from aifw.hardware.devices.findings import DeviceDetail
from aifw.hardware.libraries.measurement import Figure, Measurement
from aifw.hardware.libraries.profile import Profile
from aifw.hardware.libraries.runtime import Runtime, ToolDevice
from aifw.hardware.libraries.versions import IPEX
from aifw.hardware.machine import Accelerator, Machine
from aifw.hardware.pressure import PressureFound
from aifw.hardware.processor.cpulist import format_cpu_list
from aifw.hardware.processor.power import PowerZone
from aifw.hardware.survey import Survey
from aifw.plan.columns import aligned, columns, padded, wrapped
from aifw.units import format_bytes, format_seconds

Style = Callable[[str, str], str]
Rows = Iterable[tuple[str, str]]

_LEAST_TEXT = 24
_BULLET = "· "
_SPREAD = 4
"""Column of the table of what was measured."""
_WORTH_SAYING = 0.1
"""Share of the processors' time."""
_SHORT = {IPEX: "ipex"}


def report(
    found: Survey, machine: Machine | AifwError, profile: Profile, width: int | None, style: Style
) -> Iterator[str]:
    """The lines to print.

    Args:
        found: What the kernel tells.
        machine: What planning sees, or why it sees nothing.
        profile: What was asked and measured.
        width: Columns; None where lines are not to be wrapped.
        style: Colours a text by its role.
    """
    yield style(found.name or "unknown", "name") + style(f" · Linux {found.kernel or 'unknown'}", "faint")
    sections: tuple[tuple[str, Rows], ...] = (
        ("Processor", _processor(found)),
        ("Memory", _memory(found)),
        ("Limits", _limits(found)),
        ("Heat and power", _heat(found)),
        ("Devices", _devices(found, machine, profile)),
        ("Libraries", _libraries(profile)),
        ("Measured", _measured(profile, width)),
        ("Unknown", _unknown(found, machine, profile)),
    )
    for title, rows in sections:
        listed = list(rows)
        if listed:
            yield ""
            yield style(title, "name")
            yield from _laid_out(listed, width)


def _laid_out(rows: Sequence[tuple[str, str]], width: int | None) -> Iterator[str]:
    size = max(columns(label) for label, _ in rows)
    indent = size + (4 if size else 2)
    for label, text in rows:
        room = columns(text) if width is None else max(_LEAST_TEXT, width - indent)
        # What fits is left as it is: tables are aligned with blanks.
        bullet = "  " if text.startswith(_BULLET) else ""
        lines = [text] if columns(text) <= room else wrapped(text, room - len(bullet))
        for index, line in enumerate(lines):
            head = f"  {padded(label if index == 0 else '', size)}  " if size else "  "
            head += bullet if index else ""
            yield f"{head}{line}".rstrip()


def _processor(found: Survey) -> Iterator[tuple[str, str]]:
    processor = found.processor
    packages = f", {processor.packages} packages" if (processor.packages or 1) > 1 else ""
    yield "model", (processor.model or "unknown") + packages
    for index, each in enumerate(processor.kinds):
        kind = "of unknown kind" if each.kind == "unknown" else each.kind
        threads = f", {len(each.processors)} threads" if len(each.processors) != each.cores else ""
        text = f"{each.cores} {kind}{threads}: {format_cpu_list(each.processors)}"
        if each.allowed != each.processors:
            text += f"; allowed here: {format_cpu_list(each.allowed) or 'none'}"
        yield "cores" if index == 0 else "", text
    if processor.offline:
        yield "", f"offline: {format_cpu_list(processor.offline)}"
    yield "told by", processor.basis
    here = [f"{each.name} ({', '.join(each.present)})" for each in found.instructions.groups if each.present]
    lacking = [each.name for each in found.instructions.groups if not each.present and not each.unknown]
    yield "instructions", ", ".join(here) or "unknown"
    if lacking:
        yield "", f"not here: {', '.join(lacking)}"
    yield "caches", _caches(found) or "unknown"
    for index, policy in enumerate(found.frequencies.policies):
        held = policy.allowed_highest is not None and policy.allowed_highest != policy.highest
        text = f"{_hertz(policy.lowest)} to {_hertz(policy.highest)}"
        text += f", held to {_hertz(policy.allowed_highest)}" if held else ""
        names = [each for each in (policy.driver, policy.governor, policy.preference) if each]
        text += f": {format_cpu_list(policy.processors)}" + (f" ({', '.join(names)})" if names else "")
        yield "frequency" if index == 0 else "", text
    for index, node in enumerate(found.nodes.nodes if len(found.nodes.nodes) > 1 else ()):
        near = "unknown processors" if node.processors is None else f"processors {format_cpu_list(node.processors)}"
        size = f"{_bytes(node.total)}, {_bytes(node.free)} free"
        yield (
            "NUMA" if index == 0 else "",
            f"node {node.number}: {near if node.processors != () else 'memory only'}, {size}",
        )


def _caches(found: Survey) -> str:
    letters = {"data": "d", "instruction": "i", "unified": "", None: ""}
    return ", ".join(
        f"L{each.level}{letters[each.kind]} {_bytes(each.size)}"
        + (f" x {len(each.shared_by)}" if len(each.shared_by) > 1 else "")
        for each in found.caches.caches
    )


def _memory(found: Survey) -> Iterator[tuple[str, str]]:
    memory = found.memory
    yield "total", _bytes(memory.total)
    yield "available", _bytes(memory.available)
    if memory.swap_total == 0:
        yield "swap", "none"
    else:
        yield "swap", f"{_bytes(memory.swap_total)}, {_bytes(memory.swap_free)} free"
    for area in memory.swap:
        kind = ", compressed, in memory itself" if area.compressed else ""
        yield "", f"{area.name}: {_bytes(area.size)}, {_bytes(area.used)} used{kind}"
    for pages in memory.huge_pages:
        if pages.total:
            yield "huge pages", f"{pages.total} of {_bytes(pages.size)}, {_count(pages.free)} free"
    yield "pressure", _pressure(found.pressure)


def _pressure(found: PressureFound) -> str:
    named = (("memory", found.memory), ("own group", found.own_memory), ("processors", found.cpu), ("disk", found.io))
    told = [f"{name} {_percent(each.some_10s)}" for name, each in named if each is not None]
    return f"{', '.join(told)} of the last 10 s waited for" if told else "unknown"


def _percent(value: float) -> str:
    return f"{value:.1f} %" if 0 < value < 9.95 else f"{value:.0f} %"


def _limits(found: Survey) -> Iterator[tuple[str, str]]:
    for each in found.limits.memory:
        used = f", {_bytes(each.used)} used" if each.used is not None else ""
        yield "memory", f"{_bytes(each.size)}{used}: {each.setting} of {each.group} (version {each.version})"
    for quota in found.limits.quotas:
        yield "processor time", f"{quota.cores:g} cores: {quota.group} (version {quota.version})"
    for group in found.limits.sets:
        yield "set", f"{format_cpu_list(group.numbers)}: {group.setting} of {group.group} (version {group.version})"
    if not (found.limits.memory or found.limits.quotas or found.limits.sets or found.limits.unknown):
        yield "", "no control group limits this process"


def _heat(found: Survey) -> Iterator[tuple[str, str]]:
    for zone in found.thermal.zones:
        if zone.celsius is not None:
            trips = "".join(f", {trip.kind} at {trip.celsius:g} °C" for trip in zone.trips)
            yield zone.kind or zone.name, f"{zone.celsius:g} °C{trips}"
    for power in found.power.zones:
        # A package may be limited in two ways, and then the stricter holds.
        way = " (mmio)" if "mmio" in power.path else ""
        yield f"{power.name or power.path}{way}", _power(power)


def _power(zone: PowerZone) -> str:
    limits = [
        f"{limit.name.replace('_', ' ')} {limit.watts:g} W"
        + (f" over {format_seconds(limit.window)}" if limit.window is not None else "")
        for limit in zone.limits
        if limit.watts is not None
    ]
    if zone.joules is not None:
        limits.append(f"{zone.joules:.0f} J counted")
    return ", ".join(limits) or "no limit told"


def _devices(found: Survey, machine: Machine | AifwError, profile: Profile) -> Iterator[tuple[str, str]]:
    names: dict[str, Accelerator] = {}
    if isinstance(machine, Machine):
        yield (
            "jobs compute on",
            ", ".join(machine.devices)
            + ("" if profile.runtime is not None else "; the libraries were not asked what else they can"),
        )
        # The order is the same; the names may be those the libraries use.
        names = {
            detail.accelerator.name: each
            for detail, each in zip(found.accelerators, machine.detected, strict=False)
            if detail.accelerator.what == each.what
        }
    tools = {each.address: each for each in (profile.runtime.tools if profile.runtime is not None else ())}
    for detail in found.accelerators:
        yield from _device(detail, names.get(detail.accelerator.name, detail.accelerator), tools)
    if not found.accelerators:
        yield "accelerators", "none that the kernel knows of"


def _device(detail: DeviceDetail, seen: Accelerator, tools: dict[str, ToolDevice]) -> Iterator[tuple[str, str]]:
    yield seen.name, seen.what
    yield "", f"unusable: {seen.unusable}" if seen.unusable else "usable"
    if seen.memory is not None:
        yield "", f"memory: {format_bytes(seen.memory)} of its own"
    for name, fact in detail.facts.items():
        yield "", f"{name}: {fact}"
    tool = tools.get(detail.facts.get("PCI address", "-"))
    if tool is not None:
        size = [f"{format_bytes(tool.memory)} of memory"] if tool.memory is not None else []
        driver = [f"driver {tool.driver}"] if tool.driver else []
        yield "", f"{tool.tool}: {', '.join([each for each in (tool.name, *driver, *size) if each])}"


def _libraries(profile: Profile) -> Iterator[tuple[str, str]]:
    runtime = profile.runtime
    if runtime is None:
        stale = next((each for each in profile.stale if "librar" in each), "")
        yield "", stale or "not asked yet; `aifw hardware --refresh` asks them"
        return
    for library in runtime.libraries:
        facts = ", ".join(f"{name} {fact}" for name, fact in library.facts.items())
        yield _SHORT.get(library.name, library.name), library.version + (f"; {facts}" if facts else "")
        if library.refusal:
            yield "", f"cannot be used: {library.refusal}"
        yield from _seen(runtime, library.name)
    if not runtime.libraries:
        yield "", "neither torch nor OpenVINO is installed: pip install 'aifw[train,openvino]'"
    yield "asked", _when(profile.asked_at)


def _seen(runtime: Runtime, library: str) -> Iterator[tuple[str, str]]:
    for device in runtime.devices:
        if device.library != library:
            continue
        target = f" ({device.target})" if device.target != device.name else ""
        if device.refusal:
            yield "", f"{device.name}{target}: {device.refusal}"
            continue
        memory = f", {format_bytes(device.memory)}" if device.memory is not None else ""
        facts = "".join(f"; {name} {fact}" for name, fact in device.facts.items())
        yield "", f"{device.name}{target}: {device.what}, {', '.join(device.precisions)}{memory}{facts}"
    for key, why in runtime.absent.items():
        if key.partition(" ")[0] == library:
            yield "", f"no {key.partition(' ')[2]}: {why}"


def _measured(profile: Profile, width: int | None) -> Iterator[tuple[str, str]]:
    found = profile.measurement
    if found is None:
        stale = next((each for each in profile.stale if "measured" in each), "")
        yield "", stale or "nothing yet; `aifw hardware --measure` does"
        return
    table = [("device", "what", "threads", "median", "spread", "through")]
    table += [
        (
            each.device,
            "memory, read" if each.quantity == "bandwidth" else f"{each.precision} {_how_computed(each, profile)}",
            "" if each.threads is None else f"{each.threads}",
            f"{_amount(each.value)} {_unit(each)}",
            f"{_amount(each.lowest)} to {_amount(each.highest)}",
            each.library,
        )
        for each in found.figures
    ]
    lines = list(aligned(table, gap="  "))
    if width is not None and max(map(columns, lines)) > width - 2:
        # A table that is wrapped cannot be read; the spread is what can be done without.
        lines = list(aligned([(*row[:_SPREAD], *row[_SPREAD + 1 :]) for row in table], gap="  "))
    yield from (("", line) for line in lines)
    yield "", _how(found)
    for failure in found.failures:
        yield "", f"not measured: {failure}"


def _how_computed(figure: Figure, profile: Profile) -> str:
    """A product, or an emulated one: on a processor that has not this format itself, by what the library says."""
    for device in profile.runtime.devices if profile.runtime is not None else ():
        if (device.name, device.library) == (figure.device, figure.library) and device.name == "cpu":
            return "product" if figure.precision in {"int8", *device.precisions} else "emulated"
    return "product"


def _how(found: Measurement) -> str:
    text = f"Measured {_when(found.at)} in {format_seconds(found.seconds)}; every result was checked before it counted."
    if found.others is not None and found.others >= _WORTH_SAYING:
        text += f" Other programs took {found.others * 100:.0f} % of the processors meanwhile: alone it is faster."
    return text


def _unknown(found: Survey, machine: Machine | AifwError, profile: Profile) -> Iterator[tuple[str, str]]:
    reasons = [*found.unknown(), *profile.stale, *(profile.runtime.failures if profile.runtime is not None else ())]
    if isinstance(machine, AifwError):
        reasons.append(machine.message)
    else:
        reasons += machine.unknown
    for reason in dict.fromkeys(reasons):
        yield "", f"{_BULLET}{reason}"


def _unit(figure: Figure) -> str:
    if figure.quantity == "bandwidth":
        return "GB/s"
    return "GOP/s" if figure.precision.startswith("int") else "GFLOP/s"


def _amount(value: float) -> str:
    """In thousand millions, three digits."""
    return f"{value / 1e9:,.0f}" if value >= 99.95e9 else f"{value / 1e9:.3g}"


def _when(text: str) -> str:
    return text.replace("T", " ").removesuffix("Z") + " UTC" if text else "at an unknown time"


def _bytes(size: int | None) -> str:
    return "unknown" if size is None else format_bytes(size)


def _count(number: int | None) -> str:
    return "unknown" if number is None else f"{number}"


def _hertz(frequency: int | None) -> str:
    return (
        "unknown"
        if frequency is None
        else f"{frequency / 1e9:.2g} GHz"
        if frequency >= 1e9
        else f"{frequency / 1e6:.0f} MHz"
    )
