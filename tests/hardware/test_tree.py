"""Reading files of a tree that may hold anything."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aifw.hardware import tree as trees
from aifw.hardware.tree import LARGEST, MOST_REASONS, Reasons, Tree, look, number, plain


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_a_file_and_what_is_none(tmp_path: Path, tree: Tree) -> None:
    (tmp_path / "value").write_text(" 12\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    assert tree.text("value") == "12"
    assert tree.look("gone") == ("", "does not exist", True)
    assert tree.look("value/below") == ("", "cannot be read: not a directory", True)
    assert tree.look("folder").problem == "cannot be read: is a directory"
    assert "symbolic links" in tree.look("loop").problem
    assert tree.look("pipe") == ("", "", False)
    assert tree.look("nul\0byte").problem == "cannot be read: its name is impossible"
    assert tree.look("n" * 300).problem == "cannot be read: file name too long"


def test_an_endless_file_ends(tmp_path: Path, tree: Tree) -> None:
    (tmp_path / "zeros").symlink_to("/dev/zero")
    assert len(tree.look("zeros").text) == 1 << 16
    assert len(tree.look("zeros", LARGEST).text) == LARGEST


def test_what_the_kernel_hands_out_in_pieces_is_put_together(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "long").write_text("x" * 100)
    read = os.read
    monkeypatch.setattr(trees.os, "read", lambda file, most: read(file, min(most, 7)))
    assert look(f"{tmp_path}/long").text == "x" * 100


def test_permission_denied_is_a_reason(monkeypatch: pytest.MonkeyPatch, tree: Tree) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(trees.os, "open", refuse)
    assert tree.look("sys/secret") == ("", "cannot be read: permission denied", False)
    assert tree.number("sys/secret", 0, 9) == (None, "/sys/secret cannot be read: permission denied", False)


@pytest.mark.parametrize(
    ("text", "value", "why"),
    [
        ("7\n", 7, ""),
        ("-3", None, "x says -3, which cannot be"),
        ("100", 100, ""),
        ("101", None, "x says 101, which cannot be"),
        ("", None, "x is empty"),
        ("9" * 21, None, f"x holds `{'9' * 21}`, which is no number"),
        ("9" * 99999, None, f"x holds `{'9' * 40}...`, which is no number"),
        ("0x10", None, "x holds `0x10`, which is no number"),
        ("²", None, "x holds `²`, which is no number"),
        ("1e3", None, "x holds `1e3`, which is no number"),
        ("\x1b[31m", None, "x holds `?[31m`, which is no number"),
        ("\udcff", None, "x holds `?`, which is no number"),
    ],
)
def test_numbers(text: str, value: int | None, why: str) -> None:
    assert number(text, "x", 0, 100) == (value, why, False)


def test_bytes_that_are_no_text_can_be_shown(tmp_path: Path, tree: Tree) -> None:
    (tmp_path / "garbage").write_bytes(bytes(range(256)))
    text = plain(tree.look("garbage").text, 300)
    assert text.isprintable()
    text.encode()


def test_names_come_in_the_order_of_their_numbers(tmp_path: Path, tree: Tree) -> None:
    for name in ("cpu10", "cpu9", "cpu1", "cpufreq", b"cpu\xff".decode(errors="surrogateescape")):
        (tmp_path / name).mkdir()
    assert tree.names("", "cpu[0-9]+") == (("cpu1", "cpu9", "cpu10"), "")
    assert tree.names("gone", ".*") == ((), "/gone does not exist")


def test_a_name_that_is_no_text_is_found_again(tmp_path: Path, tree: Tree) -> None:
    name = b"gr\xc3\xb6\xdfe\xff".decode(errors="surrogateescape")
    (tmp_path / name).write_text("1")
    (tmp_path / "names").write_bytes(os.fsencode(name))
    assert tree.text(tree.text("names")) == "1"


def test_reasons_are_told_once_and_not_without_end() -> None:
    reasons = Reasons()
    reasons.add("", "a", "a", "b")
    assert reasons.all() == ("a", "b")
    reasons.add(*(f"reason {index}" for index in range(MOST_REASONS)))
    assert len(reasons.all()) == MOST_REASONS + 1
    assert reasons.all()[-1] == "and 2 more of this sort"
