"""`aifw gc` and `aifw destroy`: what goes, and above all what stays."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from aifw.state.lock import exclusive

ONE = "stages:\n  a: {kind: toy, text: one}\n"


def _texts(folder: Path) -> set[str]:
    return {path.read_text() for path in (folder / ".aifw/artifacts").glob("*/*/text/text.txt")}


def test_what_nothing_refers_to_goes_and_the_rest_stays(shell: Any) -> None:
    shell.write(ONE)
    shell.aifw("apply")
    shell.aifw("apply", "--set", "stages.a.text=two")
    assert _texts(shell.folder) == {"one", "two"}
    out = shell.aifw("gc", "--dry-run").out
    assert "stages.a, made" in out
    assert "1 would be deleted" in out
    assert _texts(shell.folder) == {"one", "two"}
    document = json.loads(shell.aifw("gc", "--json").out)
    assert document["deleted"]
    assert document["bytes"] > 0
    assert _texts(shell.folder) == {"two"}
    assert "Nothing to do" in shell.aifw("plan", "--set", "stages.a.text=two").out
    assert "to update" in shell.aifw("plan").out
    shell.aifw("apply")
    assert _texts(shell.folder) == {"one", "two"}


def test_newest_artifacts_can_be_kept(shell: Any) -> None:
    shell.write(ONE)
    for text in ("one", "two", "three"):
        shell.aifw("apply", "--set", f"stages.a.text={text}")
    shell.aifw("gc", "--keep", "2")
    assert _texts(shell.folder) == {"two", "three"}


def test_what_another_spec_of_the_folder_made_stays(shell: Any) -> None:
    shell.write(ONE)
    shell.aifw("apply")
    other = (shell.folder / "spec.yaml").read_text().replace("name: tested", "name: other").replace("one", "two")
    (shell.folder / "other.yaml").write_text(other)
    shell.aifw("apply", "other.yaml")
    assert "Nothing to collect." in shell.aifw("gc").out
    shell.aifw("destroy", "other.yaml", "--yes")
    assert _texts(shell.folder) == {"one"}
    assert "Nothing to do" in shell.aifw("plan").out


def test_an_alias_can_be_rolled_back_after_a_collection(shell: Any) -> None:
    shell.aifw("apply")
    shell.aifw("apply", "--set", "stages.a.text=longer than before")
    shell.aifw("gc")
    before = json.loads(shell.aifw("show", "best", "--json").out)["moves"]
    assert [move["cause"] for move in before] == ["promotion", "promotion", "initial"]
    shell.aifw("rollback", "best")
    pointer = json.loads(shell.aifw("show", "best", "--json").out)["pointer"]
    artifact = shell.folder / ".aifw/artifacts" / pointer["artifact"][:2] / pointer["artifact"][2:]
    assert (artifact / pointer["output"] / "text.txt").is_file()


def test_old_job_folders_and_caches_go_but_not_those_of_what_stands(shell: Any) -> None:
    shell.write(ONE)
    shell.aifw("apply")
    shell.aifw("apply", "--set", "stages.a.text=two")
    cache = shell.folder / ".aifw/cache/thing"
    cache.mkdir(parents=True)
    (cache / "bytes").write_bytes(b"x" * 1000)
    for path in (shell.folder / ".aifw").rglob("*"):
        if path.is_file() and path.suffix != ".db":
            os.utime(path, (1_000_000_000, 1_000_000_000))
    for path in sorted((shell.folder / ".aifw").rglob("*"), reverse=True):
        if path.is_dir():
            os.utime(path, (1_000_000_000, 1_000_000_000))
    shell.aifw("gc")
    assert not cache.exists()
    assert [path.name for path in (shell.folder / ".aifw/tested/jobs").iterdir()] == ["2-1-stages.a"]
    assert shell.aifw("logs", "a").out == ""
    assert "`aifw gc` collected it" in shell.aifw("logs", "a", "--run", "1", status=64).err


def test_recent_caches_stay(shell: Any) -> None:
    shell.write(ONE)
    shell.aifw("apply")
    cache = shell.folder / ".aifw/cache/thing"
    cache.mkdir(parents=True)
    shell.aifw("gc")
    assert cache.is_dir()
    assert "--older-than: " in shell.aifw("gc", "--older-than", "soon", status=64).err


def test_a_collection_waits_for_no_apply(shell: Any) -> None:
    shell.write(ONE)
    shell.aifw("apply")
    with exclusive(shell.folder / ".aifw/tested/lock"):
        assert "another aifw is applying" in shell.aifw("gc", status=6).err


def test_destroy_forgets_everything_and_deletes_what_is_outside(shell: Any) -> None:
    shell.write(
        "stages:\n  a: {kind: toy, text: one}\nstorage:\n  s: {kind: toy_cloud, path: FOLDER/world.json, witness: FOLDER/witness}\n"
        "aliases: {best: {initial: a}}\n"
    )
    shell.aifw("apply")
    ended = shell.aifw("destroy", status=4)
    assert "forgets 2 resources and deletes storage.s" in ended.err
    assert (shell.folder / "world.json").exists()
    out = shell.aifw("destroy", "--yes").out
    assert "✓ storage.s   deleted" in out
    assert "Destroyed. 1 artifacts deleted" in out
    assert not (shell.folder / "world.json").exists()
    assert _texts(shell.folder) == set()
    document = json.loads(shell.aifw("status", "--json").out)
    assert document["resources"] == []
    assert document["aliases"] == []
    assert (shell.folder / "witness").read_text().count("delete") == 1
    shell.aifw("destroy", "--yes")
    assert (shell.folder / "witness").read_text().count("delete") == 1
    assert "@best" in shell.aifw("apply").out


def test_destroy_needs_no_valid_spec_and_can_leave_the_bytes(shell: Any) -> None:
    shell.write(ONE)
    shell.aifw("apply")
    shell.write("stages:\n  a: {kind: nothing_like_that}\n")
    shell.aifw("destroy", "--yes", "--keep-artifacts")
    assert _texts(shell.folder) == {"one"}
    assert json.loads(shell.aifw("status", "--json").out)["resources"] == []


def test_destroy_of_nothing_says_so(shell: Any) -> None:
    assert "has no state yet" in shell.aifw("destroy", "--yes", status=64).err
