from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from aifw.spec.models import RESERVED_STACK_NAMES
from aifw.state.layout import Layout


def test_no_stack_can_take_a_folder_that_all_share() -> None:
    layout = Layout(Path(".aifw"), "some")
    own = {each.name for each in fields(Layout)}
    paths = [getattr(layout, name) for name, value in vars(Layout).items() if isinstance(value, property)]
    shared = {path.relative_to(layout.base).parts[0] for path in paths if layout.folder not in (path, *path.parents)}
    assert own == {"base", "name"}
    assert shared == set(RESERVED_STACK_NAMES)
