"""`aifw doctor`: what is installed, what a spec still needs, and how to get it. Nothing heavy is imported to find out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from aifw.cli.installed import Installation, Package, torch_build
from aifw.cli.options import optional_spec_options
from aifw.cli.project import STATE_FOLDER, base_folder
from aifw.errors import AifwError, ExitStatus
from aifw.units import format_bytes

if TYPE_CHECKING:
    from aifw.hardware.libraries.profile import Profile
    from aifw.hardware.libraries.runtime import Runtime
    from aifw.hardware.processor.cores import Cores

State = Literal["ok", "note", "absent", "missing"]

_ASK_KERNEL = """
import dataclasses, json
from aifw.errors import UsageError
from aifw.search import kernel_info
try:
    print(json.dumps(dataclasses.asdict(kernel_info())))
except UsageError as error:
    print(json.dumps({"refusal": error.message, "hint": error.hint}))
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        state: `missing` if the spec cannot run like this, `note` if something is worth knowing, `absent` if something is not
            there and not asked for, `ok` otherwise.
        subject: What was looked at.
        text: What was found.
        remedy: What to do about it: a command or a sentence; empty if nothing.
    """

    state: State
    subject: str
    text: str
    remedy: str = ""


@click.command()
@optional_spec_options
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def command(files: tuple[Path, ...], sets: tuple[str, ...], as_json: bool) -> int:
    """Say what is installed here, and what SPEC still needs.

    Exit status 0 if SPEC can run, 1 if something it needs is missing.
    """
    from aifw.hardware.libraries.profile import read_profile

    installation = Installation()
    profile = read_profile(base_folder(files, None) if files else Path(STATE_FOLDER))
    findings = [*_system(installation), *_hardware(profile), *_kernel(installation)]
    findings += _libraries(installation, profile.runtime)
    extras = installation.extras()
    findings += _extras(extras)
    if files:
        from aifw.spec.load import load

        spec = load(files, sets)
        findings += [*_memory(spec), *_allowed(spec, profile), *_folder(spec.root), *_kinds(spec, installation)]
    else:
        findings += _folder(Path.cwd())
    able = all(finding.state != "missing" for finding in findings)
    if as_json:
        _print_json(findings, extras, able)
    else:
        _print(findings, files)
    return ExitStatus.DONE if able else ExitStatus.JOB_FAILED


def _system(installation: Installation) -> Iterator[Finding]:
    from aifw.hardware.allocator import find_jemalloc

    version = ".".join(str(part) for part in sys.version_info[:3])
    yield Finding("ok", "python", f"{version} at {sys.executable}")
    system = os.uname()
    yield Finding(
        "ok" if system.sysname == "Linux" else "note",
        "platform",
        f"{system.sysname} {system.release} {system.machine}",
        "" if system.sysname == "Linux" else "aifw reads the /proc and /sys of Linux; elsewhere nothing is promised",
    )
    library = find_jemalloc()
    if library is not None:
        yield Finding("ok", "allocator", f"jemalloc at {library}; workers get it")
    else:
        yield Finding(
            "note",
            "allocator",
            "no jemalloc; trainings on the processor take up to twice as long without it",
            "apt-get install libjemalloc2, or the package of that name of another system",
        )
    if installation.has_module("pip"):
        yield Finding("ok", "pip", installation.version("pip") or "installed")
    else:
        yield Finding(
            "note", "pip", "not installed; models in wheels cannot be fetched", f"{sys.executable} -m ensurepip"
        )


def _hardware(profile: Profile) -> Iterator[Finding]:
    from aifw.hardware.libraries.profile import joined
    from aifw.hardware.probe import probe

    try:
        machine = joined(probe(), profile)
    except AifwError as error:
        yield Finding("missing", "memory", error.message, error.hint or "")
        return
    yield Finding("ok", "processor", f"{machine.cpu.model}, {machine.cpu.cores} usable cores")
    if machine.cpu.layout is not None:
        yield Finding("ok", "cores", _described(machine.cpu.layout))
    memory = machine.memory
    limit = f", limited to {format_bytes(memory.limit)} by a control group" if memory.limit is not None else ""
    yield Finding(
        "ok",
        "memory",
        f"{format_bytes(memory.total)}{limit}, {format_bytes(memory.available)} available now",
    )
    for device in machine.detected:
        text = f"{device.what}, driver {device.driver}"
        if not device.unusable:
            yield Finding("ok", device.name, f"{text}; jobs can compute on it")
        elif profile.runtime is None:
            yield Finding("note", device.name, f"{text}; nobody asked the libraries yet", "aifw hardware --refresh")
        else:
            yield Finding("note", device.name, f"{text}; jobs cannot compute on it: {device.unusable}")
    for reason in machine.unknown:
        yield Finding("note", "unknown", reason)


def _described(cores: Cores) -> str:
    """How many cores there are for work that computes, and which processors are of which kind: `8; performance 0-7, efficient 8-15`."""
    from aifw.hardware.processor.cpulist import format_cpu_list

    physical = len(cores.physical())
    if set(cores.kinds.values()) == {"unknown"}:
        return f"{physical} for work that computes; their kinds are not told here"
    kinds: dict[str, list[int]] = {}
    for cpu, kind in cores.kinds.items():
        kinds.setdefault(kind, []).append(cpu)
    listed = ", ".join(f"{kind} {format_cpu_list(cpus)}" for kind, cpus in kinds.items())
    return f"{physical} for work that computes; {listed} ({cores.basis})"


def _kernel(installation: Installation) -> Iterator[Finding]:
    """What computes searches. A process of its own is asked, since the kernel imports numpy."""
    import json
    import subprocess

    if not installation.has_module("numpy"):
        return
    done = subprocess.run([sys.executable, "-P", "-c", _ASK_KERNEL], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        yield Finding("note", "search", f"the kernel cannot be asked: {reason}")
        return
    told = json.loads(done.stdout)
    if "refusal" in told:
        yield Finding("missing", "search", told["refusal"], told["hint"] or "")
    elif told["reason"] is not None:
        yield Finding("note", "search", f"numpy, slower than the compiled kernel: {told['reason']}")
    else:
        threads = f"{told['threads']} thread{'' if told['threads'] == 1 else 's'}"
        yield Finding("ok", "search", f"kernel {told['level']}, {threads}; possible here: {', '.join(told['usable'])}")


def _libraries(installation: Installation, runtime: Runtime | None) -> Iterator[Finding]:
    """What computes models: as it said itself where it was asked, else by its metadata."""
    from aifw.hardware.libraries.versions import ipex_mismatch

    version = installation.version("torch")
    for name in ("torch", "openvino"):
        told = next((each for each in (runtime.libraries if runtime is not None else ()) if each.name == name), None)
        if runtime is not None and told is not None:
            on = ", ".join(device.name for device in runtime.computing(name)) or "nothing"
            text = f"{told.version}, computes on {on}"
            yield Finding("note" if told.refusal else "ok", name, told.refusal or text)
        elif name == "torch" and version is not None:
            yield Finding("ok", name, f"{version}, {torch_build(version, installation.requirements(name))}")
    extension = installation.version("intel-extension-for-pytorch")
    if extension is not None:
        mismatch = ipex_mismatch(extension, version)
        yield Finding(
            "note" if mismatch else "ok",
            "ipex",
            mismatch or f"intel-extension-for-pytorch {extension}, built for this torch",
            f"{sys.executable} -m pip uninstall intel-extension-for-pytorch" if mismatch else "",
        )


def _extras(extras: dict[str, list[Package]]) -> Iterator[Finding]:
    if not extras:
        yield Finding("note", "extras", "aifw itself is not installed, so what its extras need is unknown")
    for extra, packages in extras.items():
        lacking = [package for package in packages if package.version is None]
        old = [package for package in packages if package.fits is False]
        text = f"{len(packages) - len(lacking)} of {len(packages)} packages"
        if lacking:
            text += f"; not installed: {', '.join(package.name for package in lacking)}"
        elif old:
            text += "; does not fit: " + ", ".join(
                f"{package.name} {package.version} (wants {package.wanted})" for package in old
            )
        yield Finding("absent" if lacking else "note" if old else "ok", f"[{extra}]", text)


def _memory(spec: Any) -> Iterator[Finding]:
    from aifw.hardware.probe import probe

    pool = probe().memory.pool
    usable = max(0, pool - spec.hardware.memory.reserve)
    budget = spec.hardware.memory.budget
    if usable == 0:
        yield Finding(
            "missing",
            "budget",
            f"the reserve of {format_bytes(spec.hardware.memory.reserve)} is all of the {format_bytes(pool)} here",
            "lower `hardware.memory.reserve`",
        )
    elif budget is None or budget <= usable:
        yield Finding("ok", "budget", format_bytes(usable if budget is None else budget))
    else:
        yield Finding(
            "note",
            "budget",
            f"{format_bytes(budget)} asked for, {format_bytes(usable)} can be had here; plans keep to the latter",
        )


def _allowed(spec: Any, profile: Profile) -> Iterator[Finding]:
    """Devices and threads the spec names, where there are none or fewer here."""
    from aifw.hardware.libraries.profile import joined
    from aifw.hardware.placement import places
    from aifw.hardware.probe import probe

    machine = joined(probe(), profile)
    if spec.hardware.devices != "auto":
        here = {name for each in places(machine) for name in (each.device, each.device.partition(":")[0], each.column)}
        absent = [each for each in spec.hardware.devices if each not in here]
        if len(absent) == len(spec.hardware.devices):
            yield Finding(
                "missing",
                "devices",
                f"no job can compute on what hardware.devices allows: {', '.join(absent) or 'nothing'}",
                "`aifw hardware` shows what is here; allow it in `hardware.devices`",
            )
        elif absent:
            yield Finding("note", "devices", f"no job can compute on {', '.join(absent)} here; plans use the others")
    threads = spec.hardware.threads
    if threads != "auto" and threads > machine.cpu.cores:
        yield Finding("note", "threads", f"{threads} asked for, {machine.cpu.cores} can be had here")


def _folder(root: Path) -> Iterator[Finding]:
    """Where state and artifacts go, or would go."""
    import shutil

    wanted = root / ".aifw"
    place = next(folder for folder in (wanted, *wanted.absolute().parents) if folder.is_dir())
    if not os.access(place, os.W_OK | os.X_OK):
        yield Finding("missing", "state", f"{place} cannot be written to", "choose another folder with `--state DIR`")
        return
    yield Finding("ok", "state", f"{wanted}, {format_bytes(shutil.disk_usage(place).free)} free")


def _kinds(spec: Any, installation: Installation) -> Iterator[Finding]:
    """What the kinds of a spec need, one line each."""
    kinds = {resource.kind.name: resource.kind for resource in spec.resources.values()}
    for name, kind in sorted(kinds.items()):
        lacking = {module: extra for module, extra in kind.requires.items() if not installation.has_module(module)}
        if lacking:
            yield Finding(
                "missing",
                name,
                f"needs {', '.join(sorted(lacking))}",
                installation.command(sorted(set(lacking.values()))),
            )
        else:
            yield Finding("ok", name, "has what it needs")


def _print(findings: list[Finding], files: tuple[Path, ...]) -> None:
    marks = {
        "ok": click.style("✓", fg="green"),
        "note": click.style("!", fg="yellow"),
        "absent": "·",
        "missing": click.style("✗", fg="red"),
    }
    width = max(len(finding.subject) for finding in findings)
    for finding in findings:
        click.echo(f"{marks[finding.state]} {finding.subject:<{width}}   {finding.text}")
        if finding.remedy:
            click.echo(f"  {'':<{width}}   {click.style(finding.remedy, bold=True)}")
    if files:
        missing = sum(finding.state == "missing" for finding in findings)
        what = "1 thing is" if missing == 1 else f"{missing} things are"
        click.echo(f"\n{files[0]} " + (f"cannot run yet: {what} missing." if missing else "can run here."))


def _print_json(findings: list[Finding], extras: dict[str, list[Package]], able: bool) -> None:
    import json

    document = {
        "able": able,
        "findings": [asdict(finding) for finding in findings],
        "extras": {extra: [asdict(package) for package in packages] for extra, packages in extras.items()},
    }
    click.echo(json.dumps(document, indent=2))
