"""What asking and measuring found out, kept in `.aifw/machine.json` so that a plan need do neither.

What the libraries said holds for the drivers, package versions, visible devices, kernel and boot it was said under; what was
measured also survives a boot. Anything else in the file's place (another machine's, another layout, damage) is ignored, with the
reason in `Profile.stale`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from aifw.hardware.libraries.versions import installed_versions
from aifw.hardware.machine import Accelerator, Machine, Measured

if TYPE_CHECKING:
    from aifw.hardware.libraries.measurement import Measurement
    from aifw.hardware.libraries.runtime import Runtime

PROFILE = "machine.json"
_FORMAT = "aifw machine profile 1"
_MOST_BYTES = 1 << 20
_DRIVERS = ("i915", "xe", "intel_vpu", "nvidia", "amdgpu", "amdxdna")
_DRIVER_LIBRARIES = (
    "libze_intel_gpu.so.1",
    "libze_intel_npu.so.1",
    "libze_intel_vpu.so.1",
    "libze_loader.so.1",
    "libOpenCL.so.1",
    "libcuda.so.1",
)
_LIBRARY_FOLDERS = ("usr/lib/x86_64-linux-gnu", "usr/lib64", "usr/lib")
_VISIBILITY = (
    "CUDA_DEVICE_ORDER",
    "CUDA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ONEAPI_DEVICE_SELECTOR",
    "ROCR_VISIBLE_DEVICES",
    "ZE_AFFINITY_MASK",
)
_SURVIVES = ("boot", "kernel")
"""What may change without making measured figures stale."""
_NOT_ASKED = "not asked yet"
_PCI = r"\b[0-9A-Fa-f]{4}:[0-9A-Fa-f]{4}\b"


class Profile(NamedTuple):
    """What is known of this machine beyond what the kernel tells.

    Attributes:
        runtime: What torch and OpenVINO said, or None if nobody asked or what they said is stale.
        measured: What planning uses of the figures, by device; empty if nobody measured or the figures are stale.
        asked_at: When the libraries were asked, in UTC, ISO 8601; empty if they were not.
        measurement: All figures, or None.
        stale: What the file holds that is ignored, and why, in a sentence each.
    """

    runtime: Runtime | None = None
    measured: Mapping[str, Measured] = MappingProxyType({})
    asked_at: str = ""
    measurement: Measurement | None = None
    stale: tuple[str, ...] = ()


def read_profile(folder: Path, root: Path = Path("/")) -> Profile:
    """Read the profile of a state folder. Whatever is there, there is an answer, and nothing is imported or started to find it.

    Args:
        folder: The `.aifw` folder.
        root: Where `proc`, `sys`, `etc` and `usr` are.
    """
    path = folder / PROFILE
    try:
        text = _read(os.fspath(path), _MOST_BYTES + 1)
    except FileNotFoundError:
        return Profile()
    except OSError as error:
        return Profile(stale=(f"{path} cannot be read: {error.strerror or error}",))
    return _profile(text, path, circumstances(root))


def write_profile(
    folder: Path,
    *,
    runtime: Runtime | None = None,
    measurement: Measurement | None = None,
    asked_at: str = "",
    root: Path = Path("/"),
) -> Path:
    """Keep what was found out; the half not given stays as it is. A reader sees the old file or the new one, never a part.

    Args:
        folder: The `.aifw` folder; made if it is not there.
        runtime: What the libraries said.
        measurement: What was measured.
        asked_at: When the libraries were asked, in UTC, ISO 8601.
        root: Where `proc`, `sys`, `etc` and `usr` are.

    Returns:
        The file.

    Raises:
        OSError: It cannot be written.
    """
    path = folder / PROFILE
    now = circumstances(root)
    try:
        document = _document(_read(os.fspath(path), _MOST_BYTES + 1))
    except (OSError, ValueError):
        document = {"format": _FORMAT}
    if runtime is not None:
        document["runtime"] = {"under": now, "at": asked_at, "said": plain(runtime)}
    if measurement is not None:
        document["measured"] = {"under": now, "found": plain(measurement)}
    folder.mkdir(parents=True, exist_ok=True)
    writing = path.with_name(f"{PROFILE}.{os.getpid()}.writing")
    try:
        with writing.open("w", encoding="utf-8") as file:
            json.dump(document, file, indent=1, sort_keys=True)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        writing.replace(path)
    finally:
        writing.unlink(missing_ok=True)
    return path


def joined(machine: Machine, profile: Profile) -> Machine:
    """A machine with what its profile adds: where jobs can compute, why elsewhere they cannot, and what was measured.

    `devices` are best first: GPUs torch computes on, those with memory of their own before integrated ones; then `cpu`, which can
    do everything; then what only OpenVINO computes on and only some work fits (`npu`, `ncs2`). A GPU that OpenVINO alone reaches
    stays out, since the work that is put on a GPU is torch's; its `unusable` says so.

    Accelerators take the numbers the libraries give them, where those differ from the kernel's: it is the libraries a job asks.
    """
    unknown = [*machine.unknown, *profile.stale]
    measured = dict(profile.measured)
    taken = profile.measurement
    if taken is not None and (taken.cpu, taken.cores) != (machine.cpu.model, machine.cpu.cores):
        measured.pop("cpu", None)
        unknown.append(
            f"the processor was measured as {taken.cpu} with {taken.cores} cores to use, which it is not now: "
            "`aifw hardware --measure` measures again"
        )
    runtime = profile.runtime
    if runtime is None:
        return replace(machine, measured=measured, unknown=tuple(unknown))
    detected = tuple(_judged(each, runtime) for each in _renumbered(machine.detected, runtime))
    present = {each.name for each in detected}
    able = {
        device.name
        for device in (*runtime.computing("torch"), *runtime.computing("openvino"))
        if (device.library == "torch") == (_family(device.name) in {"cpu", "cuda", "xpu"})
        # A stick may have been pulled out since; what sits in a slot may be invisible to a container's kernel tree and yet compute.
        and (_family(device.name) != "ncs2" or device.name in present)
    }
    kinds = {each.name: each.kind for each in detected}
    order = {"discrete_gpu": 0, "integrated_gpu": 1}
    gpus = [name for name in able if _family(name) in {"cuda", "xpu"}]
    gpus.sort(key=lambda name: (order.get(kinds.get(name, "discrete_gpu"), 0), _family(name), _number(name)))
    others = sorted(able - {*gpus, "cpu"}, key=lambda name: (_family(name) != "npu", name))
    return replace(
        machine, devices=(*gpus, "cpu", *others), detected=detected, measured=measured, unknown=tuple(unknown)
    )


def circumstances(root: Path = Path("/")) -> dict[str, str]:
    """Everything that decides whether what was found out still holds, as words by what it is."""
    top = "" if root == Path("/") else os.fspath(root)
    found = {
        "boot": _line(f"{top}/proc/sys/kernel/random/boot_id"),
        "kernel": _line(f"{top}/proc/sys/kernel/osrelease"),
        "machine": _line(f"{top}/etc/machine-id") or _line(f"{top}/proc/sys/kernel/hostname"),
    }
    for driver in _DRIVERS:
        if os.access(f"{top}/sys/module/{driver}", os.F_OK):
            # A driver of the kernel's own has no version but the kernel's.
            found[f"driver {driver}"] = _line(f"{top}/sys/module/{driver}/version") or found["kernel"]
    for library in _DRIVER_LIBRARIES:
        for folder in _LIBRARY_FOLDERS:
            path = f"{top}/{folder}/{library}"
            if os.access(path, os.F_OK):
                # The name it links to carries the version.
                found[f"library {library}"] = os.path.basename(os.path.realpath(path))  # noqa: PTH119
                break
    found |= {name: value for name in _VISIBILITY if (value := os.environ.get(name)) is not None}
    found |= installed_versions()
    return found


def plain(value: Any) -> Any:
    """A value as JSON has it: what has fields becomes an object, a set a sorted list."""
    fields = getattr(value, "_fields", None) or getattr(value, "__dataclass_fields__", None)
    if fields is not None:
        return {name: plain(getattr(value, name)) for name in fields}
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    if isinstance(value, frozenset):
        return sorted(value)
    return {f"{name}": plain(each) for name, each in value.items()} if isinstance(value, Mapping) else value


def _profile(text: bytes, path: Path, now: Mapping[str, str]) -> Profile:
    try:
        document = _document(text)
    except ValueError as error:
        return Profile(stale=(f"{path} is ignored: {error}",))
    stale: list[str] = []
    runtime, asked_at, measurement = None, "", None
    measured: Mapping[str, Measured] = {}
    # Only a file that holds something costs the import of what it holds.
    if "runtime" in document:
        from aifw.hardware.libraries.runtime import runtime_from

        try:
            kept = document["runtime"]
            changed = _changes(kept["under"], now, ())
            if changed:
                stale.append(f"what the libraries said is ignored: {changed}; `aifw hardware --refresh` asks again")
            else:
                runtime, asked_at = runtime_from(kept["said"]), str(kept["at"])
        except _DAMAGE as error:
            stale.append(f"what {path} says of the libraries is ignored: {_reason(error)}")
    if "measured" in document:
        from aifw.hardware.libraries.measurement import measurement_from, summary

        try:
            kept = document["measured"]
            changed = _changes(kept["under"], now, _SURVIVES)
            if changed:
                stale.append(f"what was measured is ignored: {changed}; `aifw hardware --measure` measures again")
            else:
                measurement = measurement_from(kept["found"])
                measured = summary(measurement.figures)
        except _DAMAGE as error:
            stale.append(f"what {path} says was measured is ignored: {_reason(error)}")
    return Profile(runtime, measured, asked_at, measurement, tuple(stale))


_DAMAGE = (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError)


def _reason(error: Exception) -> str:
    return f"it has no {error}" if isinstance(error, KeyError) else str(error)


def _document(text: bytes) -> dict[str, Any]:
    """Raises ValueError with a reason if that is no profile."""
    if len(text) > _MOST_BYTES:
        raise ValueError(f"it is larger than {_MOST_BYTES} bytes, which no profile is")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is damaged ({error})") from error
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise ValueError("it is no machine profile of this aifw")
    return document


def _changes(before: Mapping[str, str], now: Mapping[str, str], but: tuple[str, ...]) -> str:
    """What is different now, in words; empty if nothing is."""
    names = [name for name in {**before, **now} if name not in but and before.get(name) != now.get(name)]
    if "machine" in names:
        return "it is of another machine"
    if "boot" in names:
        return "the machine was started again since"
    return ", ".join(
        f"{name} was {before.get(name) or 'not there'}, is {now.get(name) or 'not there'}" for name in names
    )


def _renumbered(detected: tuple[Accelerator, ...], runtime: Runtime) -> tuple[Accelerator, ...]:
    """Accelerators by the libraries' numbers, where the PCI identities leave no doubt about which is which."""
    names: dict[str, str] = {}
    for family in ("xpu", "cuda"):
        here = {each.name: _identity(each) for each in detected if _family(each.name) == family}
        there = [each for each in runtime.computing("torch") if _family(each.name) == family]
        by_identity = {each.pci.upper(): each.name for each in there}
        if len(there) == len(by_identity) == len(here) and set(here.values()) == by_identity.keys():
            names.update((name, by_identity[identity]) for name, identity in here.items())
        elif len(vendors := {each.pci[:4] for each in there}) == 1 and vendors != {""}:
            # A torch for AMD's GPUs counts those alone from zero, though NVIDIA's may be here as well.
            ours = [name for name, identity in here.items() if identity.startswith((*vendors,))]
            order = [*ours, *(name for name in here if name not in ours)]
            names.update((name, f"{family}:{index}") for index, name in enumerate(order))
    return tuple(replace(each, name=names.get(each.name, each.name)) for each in detected)


def _judged(accelerator: Accelerator, runtime: Runtime) -> Accelerator:
    name = accelerator.name
    seen = [each for each in runtime.devices if each.name == name and not each.refusal]
    torch = next((each for each in seen if each.library == "torch"), None)
    if torch is not None:
        own = torch.memory if accelerator.kind == "discrete_gpu" else None
        return replace(accelerator, unusable="", memory=accelerator.memory or own)
    if seen and _family(name) not in {"xpu", "cuda"}:
        return replace(accelerator, unusable="")
    if accelerator.unusable not in {"", _NOT_ASKED}:
        return accelerator  # the kernel has said why already
    why = runtime.why_not(name)
    if seen:
        why = f"only OpenVINO computes on it, as {seen[0].target}; {why}"
    return replace(accelerator, unusable=why)


def _identity(accelerator: Accelerator) -> str:
    match = re.search(_PCI, accelerator.what)
    return match[0].upper() if match is not None else ""


def _family(name: str) -> str:
    return name.partition(":")[0]


def _number(name: str) -> int:
    number = name.partition(":")[2]
    return int(number) if number.isdecimal() else 0


def _line(path: str) -> str:
    try:
        return _read(path, 256).decode("utf-8", errors="replace").strip()
    except OSError:
        return ""


def _read(path: str, most: int) -> bytes:
    # What lies there may be a pipe nobody writes to.
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        parts: list[bytes] = []
        left = most
        while left and (part := os.read(file, left)):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)
    finally:
        os.close(file)
