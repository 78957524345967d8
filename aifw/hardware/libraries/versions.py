"""Versions of the libraries that compute, read from the names of their metadata folders: none is imported to find out."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable

TORCH, OPENVINO, IPEX = "torch", "openvino", "intel-extension-for-pytorch"
COMPUTING = (TORCH, OPENVINO, IPEX, "nncf", "intel-sycl-rt")
"""Distributions whose version decides what can be computed on which device, and how fast."""
CUDA_ORDER = ("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
"""Environment variable and value with which CUDA counts GPUs in the order of the bus, as the probe does, and not by speed."""
_SUFFIX = ".dist-info"
_STANDARD_LIBRARY = os.path.dirname(os.__file__)  # noqa: PTH120 - used by every plan, where pathlib would cost more than the rest


def installed_versions(folders: Iterable[str] | None = None) -> dict[str, str]:
    """Version by name of those of `COMPUTING` that are installed.

    Args:
        folders: Where to look; `sys.path` unless given. As in an import, the first that has one decides.
    """
    found: dict[str, str] = {}
    for folder in sys.path if folders is None else folders:
        if folder.startswith(_STANDARD_LIBRARY) and not folder.endswith("-packages"):
            continue
        try:
            names = os.listdir(folder or ".")  # noqa: PTH208
        except OSError:
            continue
        here: dict[str, str] = {}
        for entry in names:
            if entry.endswith(_SUFFIX):
                name, _, version = entry.removesuffix(_SUFFIX).rpartition("-")
                here[name.lower().replace("_", "-").replace(".", "-")] = version
        for name in COMPUTING:
            if name in here:
                found.setdefault(name, here[name])
    return found


def release(version: str) -> tuple[int, ...]:
    """The numbers a version begins with; empty if it begins with none."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match is not None else ()


def ipex_mismatch(extension: str, torch: str | None) -> str | None:
    """Why intel-extension-for-pytorch cannot be used beside this torch, or None if it was built for it.

    The extension is compiled against one minor release of PyTorch; imported beside another it crashes the interpreter.
    """
    if torch is None:
        return f"intel-extension-for-pytorch {extension} is installed without torch"
    if release(extension)[:2] == release(torch)[:2]:
        return None
    wanted = ".".join(str(part) for part in release(extension)[:2])
    return (
        f"intel-extension-for-pytorch {extension} was built for torch {wanted}, not for {torch}; "
        "aifw leaves it alone, but other libraries may import it and crash"
    )
