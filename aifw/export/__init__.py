"""Export: models for OpenVINO, compressed, validated, and tried on the device they are for.

The names below are imported when they are first used: importing a kind of this room must not import torch or OpenVINO.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aifw.export.artifact import export
    from aifw.export.static import StaticDecoder

_HOMES = {"StaticDecoder": "aifw.export.static", "export": "aifw.export.artifact"}

__all__ = ["StaticDecoder", "export"]


def __getattr__(name: str) -> object:
    """Import a public name (PEP 562)."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'aifw.export' has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module(home), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
