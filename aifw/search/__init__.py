"""Exact vector search over the compiled kernel.

The names below are imported when they are first used: importing a kind of this room must not import numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aifw.search.index import Index
    from aifw.search.kernel import KernelInfo, kernel_info
    from aifw.search.snapshot import Selection

_HOMES = {
    "Index": "aifw.search.index",
    "KernelInfo": "aifw.search.kernel",
    "Selection": "aifw.search.snapshot",
    "kernel_info": "aifw.search.kernel",
}

__all__ = ["Index", "KernelInfo", "Selection", "kernel_info"]


def __getattr__(name: str) -> object:
    """Import a public name (PEP 562).

    Raises:
        DependencyMissing: numpy is not installed.
    """
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'aifw.search' has no attribute {name!r}")
    from importlib import import_module

    try:
        found: object = getattr(import_module(home), name)
    except ModuleNotFoundError as error:
        if error.name != "numpy":
            raise
        from aifw.errors import DependencyMissing

        raise DependencyMissing(f"aifw.search.{name} needs numpy", hint="pip install 'aifw[search]'") from error
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
