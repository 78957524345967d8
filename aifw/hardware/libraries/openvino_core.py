"""The one `openvino.Core` of this process.

On a processor with AMX, each Core that computes on it gives the thread it is first used on an alternate stack for signals, and frees that
stack when it goes, also where a Core made later has put it back meanwhile. The next signal then ends the process. One Core that
stays is enough for everything. Another, as libraries make for a call, does no harm if it goes before the next one is made.
"""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def shared_core() -> Any:
    """OpenVINO's runtime.

    Raises:
        ImportError: OpenVINO is not installed, or cannot be loaded.
    """
    import openvino

    return openvino.Core()
