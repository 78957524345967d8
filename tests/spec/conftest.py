"""Specs are read without the kinds of whatever other packages happen to be installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import settings

from aifw import kind

# Test modules are imported by path, so what they share has to be found some other way.
sys.path.insert(0, str(Path(__file__).parent))

from toys import KINDS

# How long an example takes depends on what else the machine does.
settings.register_profile("spec", deadline=None)
settings.load_profile("spec")


@pytest.fixture(autouse=True)
def no_kinds_of_other_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kind, "_plugins", dict)


@pytest.fixture
def toy_farm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces all kinds by those of `toys.py`."""
    monkeypatch.setattr(kind, "find", KINDS.get)
    monkeypatch.setattr(kind, "all_kinds", lambda: list(KINDS.values()))
