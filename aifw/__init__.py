"""aifw: a declarative engine for a self-improving AI stack on hardware people own.

The names below are imported when they are first used, so that `import aifw` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aifw.errors import AifwError
    from aifw.hardware.machine import Machine
    from aifw.hardware.probe import probe
    from aifw.job import Job
    from aifw.kind import ArtifactKind, Estimate, ExternalKind, Forecast, Kind, Observation, Output, ServiceKind
    from aifw.plan.compile import compile  # noqa: A004 - the word of the design
    from aifw.plan.model import Plan
    from aifw.plan.snapshot import Snapshot
    from aifw.settings import Ref, Secret, Settings
    from aifw.spec.diagnose import SpecInvalid
    from aifw.spec.load import load
    from aifw.spec.models import Spec

__version__ = "0.1.0"

_HOMES = {
    "AifwError": "aifw.errors",
    "ArtifactKind": "aifw.kind",
    "Estimate": "aifw.kind",
    "ExternalKind": "aifw.kind",
    "Forecast": "aifw.kind",
    "Job": "aifw.job",
    "Kind": "aifw.kind",
    "Machine": "aifw.hardware.machine",
    "Observation": "aifw.kind",
    "Output": "aifw.kind",
    "Plan": "aifw.plan.model",
    "Ref": "aifw.settings",
    "Secret": "aifw.settings",
    "ServiceKind": "aifw.kind",
    "Settings": "aifw.settings",
    "Snapshot": "aifw.plan.snapshot",
    "Spec": "aifw.spec.models",
    "SpecInvalid": "aifw.spec.diagnose",
    "compile": "aifw.plan.compile",
    "load": "aifw.spec.load",
    "probe": "aifw.hardware.probe",
}

__all__ = [
    "AifwError",
    "ArtifactKind",
    "Estimate",
    "ExternalKind",
    "Forecast",
    "Job",
    "Kind",
    "Machine",
    "Observation",
    "Output",
    "Plan",
    "Ref",
    "Secret",
    "ServiceKind",
    "Settings",
    "Snapshot",
    "Spec",
    "SpecInvalid",
    "__version__",
    "compile",
    "load",
    "probe",
]


def __getattr__(name: str) -> object:
    """Import a public name (PEP 562)."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'aifw' has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module(home), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
