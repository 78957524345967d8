"""What the toy kinds do."""

from __future__ import annotations

import json
import mmap
import os
import signal
import threading
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

from aifw.errors import InputInvalid
from aifw.job import Job
from toy.kinds import CloudSettings, GateSettings, HeavySettings, PairSettings, ToySettings, WhereSettings


def witness(path: str | None, line: str) -> None:
    """Append a line to the independent record of what happened."""
    if path is not None:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, f"{line}\n".encode())
        os.fsync(descriptor)
        os.close(descriptor)


def write(job: Job[ToySettings]) -> None:
    """Concatenate the texts, taking steps with checkpoints on the way."""
    settings = job.settings
    done = int((job.resume / "done").read_text()) if job.resume is not None else 0
    for step in range(done + 1, settings.steps + 1):
        time.sleep(settings.pause)
        job.progress(step, settings.steps, loss=1.0 / step)
        with job.checkpoint(step) as folder:
            (folder / "done").write_text(str(step))
        job.obey()
    _fail(settings.fail, job)
    if settings.token is not None:
        job.fact("token_length", len(settings.token.resolve()))
    text = settings.text
    if settings.file is not None:
        text += (job.root / settings.file).read_text()
    if settings.unobserved is not None:
        text += (job.root / settings.unobserved).read_text()
    for source in job.inputs.values():
        text += (source.path / "text.txt").read_text()
    (job.output("text") / "text.txt").write_text(str(len(text)) if settings.only_length else text)
    job.fact("length", len(text))
    if settings.holdout is not None:
        job.fact("data", sha256(settings.holdout.encode()).hexdigest())
        job.fact("sketch", [sha256(settings.holdout.encode()).hexdigest()[:16]])
    witness(settings.witness, job.key)


def _fail(how: str, job: Job[Any]) -> None:
    if how == "error":
        raise InputInvalid("the toy was told to fail", hint="tell it not to")
    if how == "crash":
        print("about to divide")
        print(1 / 0)
    if how == "exit":
        os.kill(os.getpid(), signal.SIGKILL)
    if how in {"memory", "hungry"}:
        block = bytearray(b"x") * (512 * 1024**2)
        time.sleep(30 if how == "memory" else 3)
        print(len(block))


def hold(job: Job[HeavySettings]) -> None:
    """Take memory, step by step give back what is asked for, and write how much was left of it at the end of what steps."""
    settings = job.settings
    size, step = settings.hold, 0
    if job.resume is not None:
        size, step = json.loads((job.resume / "state").read_text())
    if settings.maps is not None:
        with Path(settings.maps).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            assert sum(mapped[offset] for offset in range(0, len(mapped), 4096)) == 0
    block = bytearray(b"x") * size
    more: list[bytearray] = []
    while step < settings.steps or (settings.until is not None and not Path(settings.until).exists()):
        time.sleep(settings.pause)
        more.append(bytearray(b"x") * settings.grow)
        step += 1
        job.progress(step, max(step, settings.steps))
        if settings.deaf:
            continue
        asked = job.control()
        if asked.shrink:
            asked.shrink = False
            size //= 2
            del block
            block = bytearray(b"x") * size
            job.note(f"shrunk to {size} at step {step}")
        if not settings.forgetful:
            with job.checkpoint(step) as folder:
                (folder / "state").write_text(json.dumps([size, step]))
        job.obey()
    del block
    (job.output("text") / "text.txt").write_text(settings.text)


def where(job: Job[WhereSettings]) -> None:
    """Look at every thread, one started just now included."""
    looked = threading.Event()
    threading.Thread(target=looked.wait, daemon=True).start()
    found = {
        "threads": [sorted(os.sched_getaffinity(int(each.name))) for each in Path("/proc/self/task").iterdir()],
        "told": job.threads,
        "environment": os.environ.get("OMP_NUM_THREADS"),
        "mapped_from": os.environ.get("MALLOC_MMAP_THRESHOLD_"),
        "device": job.device,
    }
    looked.set()
    (job.output("text") / "text.txt").write_text(json.dumps(found))


def pair(job: Job[PairSettings]) -> None:
    """Write both."""
    (job.output("left") / "text.txt").write_text(job.settings.left)
    (job.output("right") / "text.txt").write_text(job.settings.right)


def gate(job: Job[GateSettings]) -> None:
    """Longer is better."""
    candidate, baseline = job.inputs["candidate"], job.inputs["baseline"]
    longer = len((candidate.path / "text.txt").read_text()) > len((baseline.path / "text.txt").read_text())
    verdict = {
        "decision": "better" if longer else "not better",
        "promote": longer,
        "alias": job.settings.alias,
        "candidate": candidate.digest,
        "incumbent": baseline.digest,
        "metrics": [],
        "look": job.look,
        "summary": "longer" if longer else "held: not longer",
    }
    (job.output("decision") / "verdict.json").write_text(json.dumps(verdict))
    job.fact("verdict", verdict)


def create(job: Job[CloudSettings]) -> None:
    """Make the thing, unless an interrupted call with the same key made it."""
    path = Path(job.settings.path)
    if not path.exists() or json.loads(path.read_text())["key"] != job.key:
        witness(job.settings.witness, f"create {job.key}")
        path.write_text(json.dumps({"key": job.key, "size": job.settings.size}))
    job.fact("size", job.settings.size)


def update(job: Job[CloudSettings]) -> None:
    """Change it in place."""
    path = Path(job.settings.path)
    if json.loads(path.read_text())["key"] != job.key:
        witness(job.settings.witness, f"update {job.key}")
        path.write_text(json.dumps({"key": job.key, "size": job.settings.size}))
    job.fact("size", job.settings.size)


def delete(job: Job[CloudSettings]) -> None:
    """Remove it, unless it is gone."""
    path = Path(job.settings.path)
    if path.exists():
        witness(job.settings.witness, f"delete {job.key}")
        path.unlink()
