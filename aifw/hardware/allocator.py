"""Which memory allocator workers can be given, found by looking for its file."""

from __future__ import annotations

import sys
from pathlib import Path

_FOLDERS = ("usr/lib/*-linux-gnu", "usr/lib64", "usr/lib", "usr/local/lib")
_NAME = "libjemalloc.so.2"


def find_jemalloc(root: Path = Path("/")) -> Path | None:
    """The library of jemalloc, of the Python environment or of the system; None where there is none.

    Args:
        root: Where `usr` is; another than `/` is a captured tree, for which the environment does not count.
    """
    if root == Path("/") and (own := Path(sys.prefix) / "lib" / _NAME).is_file():
        return own
    found = (path for folder in _FOLDERS for path in sorted(root.glob(f"{folder}/{_NAME}")) if path.is_file())
    return next(found, None)
