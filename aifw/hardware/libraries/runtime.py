"""What torch and OpenVINO say they can compute on. Asking them starts processes; the values here are light.

A library is asked in a process of its own (`python -P -m aifw.hardware.libraries.ask_torch`), because one that does not fit the drivers may
crash, hang or print what it likes: that is then a finding like any other. Its answers come line by line, so that what was told
before a crash is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from aifw.hardware.libraries.versions import IPEX, OPENVINO, TORCH, installed_versions, ipex_mismatch

NOTHING: Mapping[str, str] = MappingProxyType({})
ASK_SECONDS = 90.0
"""The first call into a GPU driver may compile for a while."""


class Library(NamedTuple):
    """A library that computes.

    Attributes:
        name: Its distribution: `torch`.
        version: As it says itself, or as its metadata does where it cannot be imported.
        refusal: Why nothing can be computed with it, or empty.
        facts: What else it says, for people.
    """

    name: str
    version: str
    refusal: str = ""
    facts: Mapping[str, str] = NOTHING


class RuntimeDevice(NamedTuple):
    """A device as a library sees it.

    Attributes:
        name: As a spec names it: `cpu`, `xpu:0`, `cuda:0`, `npu`, `ncs2`.
        library: The library.
        target: What the library calls it: `xpu:0`, `GPU.0`, `NPU`.
        what: Its name for people.
        pci: Vendor and device, `8086:7D55`, or the vendor alone, or empty.
        memory: Bytes it says it can use, or None. Of an integrated GPU they are part of the machine's.
        precisions: Number formats it is good at, as far as the library says.
        facts: What else the library says of it.
        refusal: Why a small product could not be computed on it, or empty: then one was, with the right result.
    """

    name: str
    library: str
    target: str
    what: str
    pci: str = ""
    memory: int | None = None
    precisions: tuple[str, ...] = ()
    facts: Mapping[str, str] = NOTHING
    refusal: str = ""


class ToolDevice(NamedTuple):
    """A GPU as its vendor's program describes it; of what `aifw.hardware.devices.vendor_tools` reads, the part that lasts.

    Attributes:
        tool: `nvidia-smi`, `amd-smi` or `rocm-smi`.
        address: On the PCI bus, or empty.
        name: Of the model, or empty.
        driver: Version of the driver, or empty.
        memory: Bytes of its own, or None if unknown.
    """

    tool: str
    address: str
    name: str = ""
    driver: str = ""
    memory: int | None = None


class Runtime(NamedTuple):
    """What the installed libraries can compute on.

    Attributes:
        libraries: Those that are installed.
        devices: Each device by each library that lists it.
        absent: Why a library lists no device of a family, by `torch xpu`, `openvino npu`.
        tools: GPUs as the vendors' programs describe them.
        failures: Which of these programs failed, and how, in a sentence each.
    """

    libraries: tuple[Library, ...] = ()
    devices: tuple[RuntimeDevice, ...] = ()
    absent: Mapping[str, str] = NOTHING
    tools: tuple[ToolDevice, ...] = ()
    failures: tuple[str, ...] = ()

    def computing(self, library: str) -> tuple[RuntimeDevice, ...]:
        """Devices on which a library computed."""
        return tuple(device for device in self.devices if device.library == library and not device.refusal)

    def why_not(self, name: str) -> str:
        """Why no library can compute on a device, in a sentence; also where nobody said."""
        family = name.partition(":")[0]
        said = [
            f"{device.library} sees it but {device.refusal}"
            for device in self.devices
            if device.name == name and device.refusal
        ]
        said += [f"{key.partition(' ')[0]}: {text}" for key, text in self.absent.items() if key.endswith(f" {family}")]
        said += [f"{library.name}: {library.refusal}" for library in self.libraries if library.refusal and not said]
        return "; ".join(said) or "none of the installed libraries lists it"


def ask(timeout_seconds: float = ASK_SECONDS) -> Runtime:
    """Ask torch, OpenVINO and the vendors' programs, each in a process of its own.

    Whatever they do, there is an answer within a few times `timeout_seconds`.
    """
    from aifw.hardware.libraries.child import converse

    versions = installed_versions()
    told: list[Mapping[str, Any]] = []
    for name, module in ((TORCH, "ask_torch"), (OPENVINO, "ask_openvino")):
        if name in versions:
            # The extension crashes beside another torch, so the child is told whether it may be imported.
            allowed = name == TORCH and IPEX in versions and ipex_mismatch(versions[IPEX], versions[TORCH]) is None
            before = len(told)
            failure = converse(
                f"aifw.hardware.libraries.{module}", ["--ipex"] if allowed else [], timeout_seconds, told.append
            )
            if failure:
                told += _after_failure(name, versions[name], failure, told[before:])
    return _collected(told, versions)


def _after_failure(name: str, version: str, failure: str, told: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """What follows from a child that did not end well: the library is there but useless, or the device it was at is."""
    if not any("library" in line for line in told):
        return [{"library": {"name": name, "version": version, "refusal": failure}}]
    now = next((line["now"] for line in reversed(told) if "now" in line), None)
    if not isinstance(now, dict):
        return []
    if "family" in now:
        return [{"absent": {f"{name} {now['family']}": failure}}]
    if "library" in now:
        return [{"library": {**now["library"], "refusal": failure}}]
    return [{"device": {**now, "library": name, "refusal": failure}}] if "target" in now else []


def _collected(told: list[Mapping[str, Any]], versions: Mapping[str, str]) -> Runtime:
    from aifw.hardware.devices.vendor_tools import ask_tools

    libraries: dict[str, Library] = {}
    devices: dict[tuple[str, str], RuntimeDevice] = {}
    absent: dict[str, str] = {}
    for line in told:
        try:
            if "library" in line:
                library = library_from(line["library"])
                libraries[library.name] = library
            if "device" in line:
                device = device_from(line["device"])
                devices[device.library, device.target] = device
            absent |= _texts(line.get("absent", {}))
        except (ValueError, TypeError, KeyError) as error:
            absent["answers"] = f"an answer was not understood: {error!r}"
    if IPEX in versions and (mismatch := ipex_mismatch(versions[IPEX], versions.get(TORCH))):
        libraries[IPEX] = Library(IPEX, versions[IPEX], mismatch)
    found = _numbered_alike(tuple(devices.values()))
    answers = ask_tools()
    tools = tuple(ToolDevice(each.tool, each.address, each.name, each.driver, each.memory) for each in answers.devices)
    return Runtime(tuple(libraries.values()), found, absent, tools, answers.unknown)


def _numbered_alike(devices: tuple[RuntimeDevice, ...]) -> tuple[RuntimeDevice, ...]:
    """OpenVINO's GPUs by the numbers torch gives them, where the PCI identities leave no doubt about which is which."""
    told: dict[str, dict[str, list[str]]] = {TORCH: {}, OPENVINO: {}}
    for each in devices:
        if each.name.startswith("xpu:") and each.pci:
            told[each.library].setdefault(each.pci, []).append(each.name)
    if told[TORCH].keys() != told[OPENVINO].keys() or any(
        len(each) > 1 for side in told.values() for each in side.values()
    ):
        return devices
    names = {pci: name for pci, (name,) in told[TORCH].items()}
    return tuple(
        each._replace(name=names[each.pci]) if each.library == OPENVINO and each.pci in names else each
        for each in devices
    )


def runtime_from(document: Any) -> Runtime:
    """The value a stored document describes.

    Raises:
        ValueError, TypeError, KeyError: It describes none.
    """
    return Runtime(
        tuple(library_from(each) for each in document["libraries"]),
        tuple(device_from(each) for each in document["devices"]),
        _texts(document["absent"]),
        tuple(_tool_from(each) for each in document["tools"]),
        tuple(_text(each) for each in document["failures"]),
    )


def library_from(document: Any) -> Library:
    """The same for one library."""
    return Library(
        _text(document["name"]),
        _text(document["version"]),
        _text(document.get("refusal", "")),
        _texts(document.get("facts", {})),
    )


def device_from(document: Any) -> RuntimeDevice:
    """The same for one device."""
    return RuntimeDevice(
        _text(document["name"]),
        _text(document["library"]),
        _text(document["target"]),
        _text(document["what"]),
        _text(document.get("pci", "")),
        _size(document.get("memory")),
        tuple(_text(each) for each in document.get("precisions", ())),
        _texts(document.get("facts", {})),
        _text(document.get("refusal", "")),
    )


def _tool_from(document: Any) -> ToolDevice:
    return ToolDevice(
        _text(document["tool"]),
        _text(document["address"]),
        _text(document["name"]),
        _text(document["driver"]),
        _size(document["memory"]),
    )


def _size(value: Any) -> int | None:
    if value is not None and (type(value) is not int or not 0 < value < 1 << 60):
        raise ValueError(f"a device has {value!r} bytes")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _texts(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{value!r} is no table")
    return {_text(name): _text(text) for name, text in value.items()}
