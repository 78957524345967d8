from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aifw import kind

PLUGIN = Path(__file__).with_name("plugin")


@pytest.fixture(scope="module")
def toy_kinds() -> Iterator[Path]:
    """Makes the toy kinds findable through their entry points, as if the package were installed."""
    sys.path.insert(0, str(PLUGIN))
    kind._plugins.cache_clear()
    assert kind.find("toy") is not None
    yield PLUGIN
    sys.path.remove(str(PLUGIN))
    kind._plugins.cache_clear()
