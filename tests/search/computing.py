"""Running a test with the kernel and with numpy."""

from __future__ import annotations

import pytest

from aifw.search.backend import Backend, backend
from aifw.search.kernel import NO_KERNEL, loaded


@pytest.fixture(params=["kernel", "numpy"])
def computing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """What computes in this test."""
    if request.param == "numpy":
        monkeypatch.setenv(NO_KERNEL, "1")
    else:
        monkeypatch.delenv(NO_KERNEL, raising=False)
        if loaded() is None:
            pytest.skip("there is no compiled kernel")
    return backend()
