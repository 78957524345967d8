"""aifw: a declarative engine for a self-improving AI stack on hardware people own."""

from __future__ import annotations

__version__ = "0.1.0"

__all__ = ["__version__"]
