"""The compiled kernel: whether it is there, what it runs on, and the choice that `AIFW_SIMD` makes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

from aifw.errors import DependencyMissing, UsageError
from aifw.hardware.cgroup import cpu_quota, groups
from aifw.hardware.processor.cores import Cores, find_cores
from aifw.hardware.processor.cores import default_threads as threads_for

VARIABLE = "AIFW_SIMD"
"""Environment variable that names the instruction set to use; read when the kernel is first asked for."""

LEVELS = ("scalar", "avx2", "avxvnni", "avx512", "avx512vnni")
"""Instruction sets the kernel knows, from the most modest. Without a choice, the last usable one is taken."""

NO_KERNEL = "AIFW_NO_KERNEL"
"""Environment variable: set to 1, numpy does the work although there is a kernel."""

NUMPY = "numpy"
"""What stands for no kernel: numpy does the work."""

_EXTENSION = "aifw.search._kernel"


@dataclass(frozen=True)
class KernelInfo:
    """What computes the searches of this process.

    Attributes:
        level: Instruction set in use, one of `LEVELS`, or `numpy` where there is no kernel.
        usable: Instruction sets that were compiled in and that processor and operating system support, from the most modest.
        built: Instruction sets that were compiled in.
        compiler: What compiled the kernel, None without one.
        reason: Why there is no kernel, None with one.
        threads: How many threads a search uses unless told otherwise.
    """

    level: str
    usable: tuple[str, ...]
    built: tuple[str, ...]
    compiler: str | None
    reason: str | None
    threads: int


def kernel_info() -> KernelInfo:
    """What computes the searches of this process.

    Raises:
        UsageError: `AIFW_SIMD` asks for what nobody knows or this machine cannot do.
        DependencyMissing: numpy is not installed.
    """
    kernel, reason = (None, f"{NO_KERNEL}={os.environ[NO_KERNEL]}") if _left_out() else _kernel()
    if kernel is None:
        return KernelInfo(NUMPY, (), (), None, reason, default_threads())
    return KernelInfo(kernel.level(), kernel.usable(), kernel.built(), kernel.compiler(), None, default_threads())


def loaded() -> ModuleType | None:
    """The compiled kernel (typed by `_kernel.pyi`) with its instruction set chosen, or None where numpy does the work.

    Raises:
        UsageError: `AIFW_SIMD` asks for what nobody knows or this machine cannot do.
    """
    return None if _left_out() else _kernel()[0]


def default_threads() -> int:
    """How many threads a search uses unless told otherwise: one for each physical core of the strongest kind it may use."""
    return _threads(frozenset(os.sched_getaffinity(0)))


def performance_cores() -> tuple[int, ...]:
    """The processors that the threads of a search are pinned to where that is asked for."""
    return _cores(frozenset(os.sched_getaffinity(0))).performance()


@cache
def _threads(allowed: frozenset[int]) -> int:
    return threads_for(_cores(allowed), cpu_quota(groups(Path("/"))))


@cache
def _cores(allowed: frozenset[int]) -> Cores:
    return find_cores(allowed=allowed)


def _left_out() -> bool:
    return os.environ.get(NO_KERNEL, "").lower() not in {"", "0", "false", "no", "off"}


@cache
def _kernel() -> tuple[ModuleType | None, str | None]:
    """The extension after the choice of a level, or None and the reason."""
    wanted = os.environ.get(VARIABLE, "").strip().lower()
    kernel, reason = _extension()
    level = choose(wanted, kernel.built() if kernel else (), kernel.usable() if kernel else (), reason)
    if kernel is None or level == NUMPY:
        return None, reason or f"{VARIABLE}={NUMPY}"
    if level is not None:
        kernel.select(level)
    return kernel, None


def _extension() -> tuple[ModuleType | None, str | None]:
    try:
        return import_module(_EXTENSION), None
    except ModuleNotFoundError as error:
        if error.name == "numpy":
            raise DependencyMissing("a search needs numpy", hint="pip install 'aifw[search]'") from error
        if error.name != _EXTENSION:
            raise
        return None, "aifw was installed without its compiled kernel"
    except ImportError as error:
        return None, f"the compiled kernel cannot be loaded: {error}"


def choose(wanted: str, built: Sequence[str], usable: Sequence[str], reason: str | None = None) -> str | None:
    """The level that a value of `AIFW_SIMD` asks for; None leaves the choice to the kernel.

    Args:
        wanted: The value; empty for no wish.
        built: Levels that were compiled in; none without a kernel.
        usable: Those of them that this machine supports.
        reason: Why there is no kernel.

    Raises:
        UsageError: The level is not known, was not compiled in, or is not supported here.
    """
    if not wanted:
        return None
    if wanted == NUMPY or wanted in usable:
        return wanted
    if wanted not in LEVELS:
        why = "no such instruction set"
    elif not built:
        why = reason or "there is no compiled kernel"
    elif wanted not in built:
        why = "this build of the kernel does not have it"
    else:
        why = "this processor or its operating system does not support it"
    raise UsageError(
        f"{VARIABLE}={wanted}: {why}",
        hint=f"possible here: {', '.join((NUMPY, *usable))}; without {VARIABLE} the last of them is used",
    )
