"""Specs are read without the kinds of whatever other packages happen to be installed."""

from __future__ import annotations

import pytest

from aifw import kind


@pytest.fixture(autouse=True)
def no_kinds_of_other_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kind, "_plugins", dict)
