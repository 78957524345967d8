"""`python -m aifw`."""

from __future__ import annotations

from aifw.cli.main import run

if __name__ == "__main__":
    run()
