from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from aifw.errors import JobStopped
from aifw.job import Control, Job, latest_checkpoint


@pytest.fixture
def job(tmp_path: Path) -> Job[None]:
    return Job(None, out=tmp_path / "out")


@pytest.fixture
def reported() -> list[tuple[str, Mapping[str, Any]]]:
    return []


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def save(job: Job[None], step: int, **options: int) -> None:
    with job.checkpoint(step, **options) as folder:
        (folder / "state").write_text(str(step))


# Outputs and facts


def test_an_output_is_a_folder_of_its_own(tmp_path: Path) -> None:
    job = Job(None, out=tmp_path / "out", outputs=("train", "heldout"))
    assert job.output("train") == tmp_path / "out" / "train"
    assert job.output("train").is_dir()
    with pytest.raises(AssertionError, match="does not declare an output 'test'"):
        job.output("test")


def test_a_fact_belongs_to_the_only_output_or_to_the_artifact(tmp_path: Path) -> None:
    one = Job(None, out=tmp_path, outputs=("text",))
    one.fact("rows", 3)
    assert one.facts == {"text": {"rows": 3}}
    two = Job(None, out=tmp_path, outputs=("train", "heldout"))
    two.fact("rows", 3)
    two.fact("rows", 2, output="train")
    two.fact("length", 5, output="train")
    assert two.facts == {"": {"rows": 3}, "train": {"rows": 2, "length": 5}}
    none = Job(None, out=tmp_path)
    none.fact("size", 1)
    assert none.facts == {"": {"size": 1}}


def test_a_fact_about_an_output_that_is_not_declared_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="does not declare an output 'trian'"):
        Job(None, out=tmp_path, outputs=("train",)).fact("rows", 3, output="trian")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"bytes", Path("/")])
def test_a_fact_that_json_cannot_hold_is_a_mistake_where_it_is_stated(job: Job[None], value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        job.fact("wrong", value)
    assert job.facts == {}


# Reporting and obeying


def test_reports_say_what_happened(tmp_path: Path, reported: list[Any]) -> None:
    job = Job(None, out=tmp_path / "out", report=lambda *event: reported.append(event))
    job.progress(1, 10, loss=0.5)
    job.progress(2)
    job.metric("accuracy", 0.7, step=2)
    job.note("skipped 3 rows")
    save(job, 4)
    assert reported == [
        ("progress", {"done": 1, "total": 10, "unit": "step", "metrics": {"loss": 0.5}}),
        ("progress", {"done": 2, "total": None, "unit": "step"}),
        ("metric", {"name": "accuracy", "value": 0.7, "step": 2}),
        ("note", {"text": "skipped 3 rows"}),
        ("checkpoint", {"step": 4}),
    ]


def test_a_job_stops_only_when_it_is_asked_to(job: Job[None]) -> None:
    job.obey()
    job.asked.checkpoint = job.asked.shrink = True
    job.obey()
    job.asked.stop = True
    with pytest.raises(JobStopped):
        job.obey()


def test_what_is_asked_is_seen_and_a_checkpoint_answers_it(tmp_path: Path) -> None:
    asked = Control()
    job = Job(None, out=tmp_path / "out", asked=asked)
    asked.checkpoint = True
    assert job.control().checkpoint
    save(job, 1)
    assert not job.control().checkpoint


# Checkpoints


def test_later_checkpoints_replace_earlier_ones(job: Job[None], tmp_path: Path) -> None:
    for step in (5, 10, 100):
        save(job, step)
    found = latest_checkpoint(tmp_path / "checkpoints")
    assert found is not None
    assert (found.name, (found / "state").read_text()) == ("step-000000100", "100")
    assert names(tmp_path / "checkpoints") == ["step-000000100"]


def test_as_many_are_kept_as_asked_for(job: Job[None], tmp_path: Path) -> None:
    for step in range(1, 6):
        save(job, step, keep=3)
    assert names(tmp_path / "checkpoints") == ["step-000000003", "step-000000004", "step-000000005"]


def test_the_same_step_again_replaces_it(job: Job[None], tmp_path: Path) -> None:
    save(job, 3)
    with job.checkpoint(3) as folder:
        (folder / "other").touch()
    assert names(tmp_path / "checkpoints" / "step-000000003") == ["other"]


def test_a_job_that_starts_afresh_is_not_resumed_from_an_earlier_attempt(job: Job[None], tmp_path: Path) -> None:
    save(job, 9)
    save(job, 1)
    assert names(tmp_path / "checkpoints") == ["step-000000001"]


def test_an_error_while_writing_leaves_the_former_checkpoint_alone(
    tmp_path: Path, reported: list[tuple[str, Mapping[str, Any]]]
) -> None:
    job = Job(None, out=tmp_path / "out", report=lambda *event: reported.append(event))
    save(job, 1)

    def fail() -> None:
        with job.checkpoint(2) as folder:
            (folder / "half").write_text("half")
            raise OSError("disk on fire")

    with pytest.raises(OSError, match="disk on fire"):
        fail()
    assert names(tmp_path / "checkpoints") == ["step-000000001"]
    assert [data["step"] for name, data in reported if name == "checkpoint"] == [1]


def test_a_checkpoint_is_not_there_before_it_is_complete(job: Job[None], tmp_path: Path) -> None:
    with job.checkpoint(7) as folder:
        (folder / "state").touch()
        assert latest_checkpoint(tmp_path / "checkpoints") is None
        assert folder.parent == tmp_path / "checkpoints", "on the same file system, so that it can be renamed"
    assert latest_checkpoint(tmp_path / "checkpoints") is not None


def test_a_job_killed_while_it_writes_leaves_the_former_checkpoint(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from aifw.job import Job
job = Job(None, out=Path(sys.argv[1]) / "out")
for step in (1, 2):
    with job.checkpoint(step) as folder:
        (folder / "state").write_text(str(step))
        if step == 2:
            os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    found = latest_checkpoint(tmp_path / "checkpoints")
    assert found is not None
    assert (found / "state").read_text() == "1"
    save(Job(None, out=tmp_path / "out"), 2)
    found = latest_checkpoint(tmp_path / "checkpoints")
    assert found is not None
    assert (found / "state").read_text() == "2"


def test_there_may_be_no_checkpoint(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path / "nowhere") is None


def test_checkpoints_go_where_the_engine_says(tmp_path: Path) -> None:
    save(Job(None, out=tmp_path / "job" / "out", checkpoints=tmp_path / "elsewhere"), 1)
    assert names(tmp_path / "elsewhere") == ["step-000000001"]
    assert not (tmp_path / "job").exists()


# Cache


def test_a_cache_is_made_once(job: Job[None], tmp_path: Path) -> None:
    def make(folder: Path) -> None:
        (folder / "value").write_text("made")

    path = job.cache("key", make)
    assert (path / "value").read_text() == "made"

    def again(folder: Path) -> None:
        raise AssertionError("it is there already")

    assert job.cache("key", again) == path
    assert Job(None, out=tmp_path / "out", cache_root=path.parent).cache("key", again) == path
    assert names(path.parent) == ["key"]


def test_a_cache_that_could_not_be_made_is_not_there(job: Job[None], tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        job.cache("key", fail)
    assert names(tmp_path / "cache") == []
    assert (job.cache("key", lambda folder: (folder / "whole").touch()) / "whole").exists()


def test_of_two_that_make_a_cache_at_once_one_result_is_kept(job: Job[None], tmp_path: Path) -> None:
    """Two processes, which meet in the middle of making it."""
    code = """
import sys
from pathlib import Path
from aifw.job import Job
def make(folder):
    (folder / "who").write_text(sys.argv[2])
    print("making", flush=True)
    sys.stdin.readline()
path = Job(None, out=Path(sys.argv[1]) / "out").cache("key", make)
print((path / "who").read_text())
"""
    makers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), who], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for who in ("one", "two")
    ]
    for maker in makers:
        assert maker.stdout is not None
        assert maker.stdout.readline() == "making\n"
    said = [maker.communicate("go\n")[0].strip() for maker in makers]
    assert [maker.returncode for maker in makers] == [0, 0]
    assert said == ["one", "one"], "the first that is done wins, and both use it"
    assert names(tmp_path / "cache") == ["key"]


def test_a_full_disk_while_making_a_cache_is_an_error(job: Job[None], tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        job.cache("key", fail)
    assert names(tmp_path / "cache") == []


def test_everything_is_flushed_before_it_counts(
    job: Job[None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: flushed.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
    )
    with job.checkpoint(1) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "state").write_text("state")
    expected = [folder, folder / "sub", folder / "sub" / "state"]
    assert sorted(flushed[:-1]) == sorted(map(str, expected)), "content and folders, under the temporary name"
    assert flushed[-1] == str(tmp_path / "checkpoints"), "then the folder that has the new name"
