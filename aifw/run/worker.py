"""The process that does one job: `python -m aifw.run.worker FOLDER`.

It holds the reading end of a pipe from the engine. At end of file the engine is gone: the job is asked to stop, and the process
exits in any case after a grace period, together with everything it started, so that no worker outlives its engine.
"""

from __future__ import annotations

import errno
import json
import math
import os
import resource
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from aifw.boundary import boundary
from aifw.errors import AifwError, InputInvalid, JobStopped, NoSpace
from aifw.executors.local import LOCK_VARIABLE, start_time
from aifw.hardware.meter import following
from aifw.job import Control, Input, Job, sync_tree
from aifw.kind import AnyKind, Workspace, find, function
from aifw.run.order import Order, write_durably
from aifw.state.artifacts import build_manifest, digest_of

GRACE_VARIABLE = "AIFW_GRACE_SECONDS"
_SHOWN_PER_SECOND = 5.0
_LOOK_SECONDS = 0.01
"""Between two looks at what the job holds. A look takes some ten microseconds. Memory that is taken and given back within the time
shows only in part: less than a thread can touch in it, which is about 20 MB."""


def main(folder: Path) -> int:
    """Do the job in `folder`; returns the exit status: 0 done, 3 failed, 4 stopped."""
    if LOCK_VARIABLE in os.environ:
        os.set_inheritable(int(os.environ[LOCK_VARIABLE]), False)
    write_durably(folder / "worker.json", {"pid": os.getpid(), "started": start_time(os.getpid())})
    boundary("worker.started")
    _stay_on(Order.read(folder).cpus)
    asked = Control()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: setattr(asked, "stop", True))
    threading.Thread(target=_listen, args=(asked,), daemon=True).start()
    return perform(folder, asked)


def perform(folder: Path, asked: Control) -> int:
    """Do the job in `folder` within this process, obeying `asked`; returns the exit status."""
    begun = time.monotonic()
    events_path = folder / "events.jsonl"
    with events_path.open("a", encoding="utf-8", buffering=1) as events, following(os.getpid(), _LOOK_SECONDS) as meter:
        result = _attempt(folder, asked, _reporter(events.write))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    result["usage"] = {
        "seconds": time.monotonic() - begun,
        # Where the kernel does not tell mapped files apart, they count.
        "memory": meter.peak or usage.ru_maxrss * 1024,
        "cpu": usage.ru_utime + usage.ru_stime,
    }
    write_durably(folder / "result.json", result)
    boundary("worker.finished")
    return {"done": 0, "failed": 3, "stopped": 4}[result["status"]]


def _stay_on(cpus: Collection[int]) -> None:
    """Keep this process on the processors of its order. Threads that libraries start later inherit that, so it is done first.

    Those that may not be used any more are left out; without any, or where a sandbox forbids it, the process stays where it may be.
    """
    allowed = os.sched_getaffinity(0)
    if wanted := allowed.intersection(cpus):
        with suppress(OSError):
            os.sched_setaffinity(0, wanted)


def _listen(asked: Control) -> None:
    """Take messages from the engine; the end of them means that it is gone."""
    for line in sys.stdin.buffer:
        name = json.loads(line).get("ask")
        if name in {"stop", "checkpoint", "shrink"}:
            setattr(asked, name, True)
    asked.stop = True
    time.sleep(float(os.environ.get(GRACE_VARIABLE, "30")))
    _leave(4)


def _leave(status: int) -> NoReturn:
    """End this process. Without an engine, which would do it, also end what the job started: they are one process group."""
    poll = select.poll()
    poll.register(0, 0)
    abandoned = any(event & select.POLLHUP for _, event in poll.poll(0))
    if abandoned and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(status)


def _reporter(write: Callable[[str], object]) -> Callable[[str, Mapping[str, Any]], None]:
    last = 0.0

    def report(name: str, data: Mapping[str, Any]) -> None:
        nonlocal last
        now = time.time()
        if (
            name == "progress"
            and "metrics" not in data
            and now - last < 1 / _SHOWN_PER_SECOND
            and data["done"] != data["total"]
        ):
            return
        last = now
        write(json.dumps({"time": now, "event": name, **_finite(data)}, allow_nan=False) + "\n")

    return report


def _finite(value: Any) -> Any:
    """The same with what JSON has no number for, such as a loss that is not one, as text."""
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _attempt(folder: Path, asked: Control, report: Callable[[str, Mapping[str, Any]], None]) -> dict[str, Any]:
    try:
        order = Order.read(folder)
        kind = find(order.kind)
        if kind is None:
            raise AifwError(
                f"there is no kind `{order.kind}` in this environment", hint="install the package that brings it"
            )
        job = _job(order, kind, folder, asked, report)
        function(_work(kind, order.verb))(job)
        boundary("worker.worked")
        if order.verb != "run":
            return {"status": "done", "facts": _merged(job.facts)}
        missing = [name for name in job.outputs if not (job.out / name).is_dir()]
        if missing:
            raise AifwError(f"the kind `{kind.name}` left no output {', '.join(missing)}")
        sync_tree(job.out)
        manifest = build_manifest(job.out, kind.name, job.outputs, job.facts)
        return {"status": "done", "manifest": manifest, "observed": _observed(kind, job)}
    except JobStopped:
        return {"status": "stopped"}
    except AifwError as error:
        return _failed(error.code, error.message, error.hint)
    except MemoryError:
        traceback.print_exc()
        return _failed("AIFW500", "out of memory", "give the job more memory, or make it smaller")
    # The code of a kind may raise anything; whatever it is, it is the job's failure and is told as such.
    except Exception as error:  # noqa: BLE001
        traceback.print_exc()
        if out_of_space(error):
            return _failed(
                NoSpace.code, "the disk is full; the job's last checkpoint is kept", "free some space and apply again"
            )
        if isinstance(error, OSError):
            return _failed("AIFW500", f"{type(error).__name__}: {error}", None)
        return _failed("AIFW500", f"{type(error).__name__}: {error}", "`aifw logs` shows the whole traceback")


def out_of_space(error: Exception) -> bool:
    """Whether a disk is full or a quota used up. Libraries in other languages, safetensors among them, say it in words only."""
    numbers = (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, OSError):
        return error.errno in numbers
    return any(os.strerror(number) in str(error) for number in numbers)


def _failed(code: str, message: str, hint: str | None) -> dict[str, Any]:
    return {"status": "failed", "error": {"code": code, "message": message, "hint": hint}}


def _observed(kind: AnyKind, job: Job[Any]) -> str | None:
    """What the kind observes once the work is done. If that is not what was planned, it read something else than the key says."""
    try:
        observation = kind.observe(job.settings, Workspace(job.root, digest_of))
    except (InputInvalid, OSError):
        return None
    return observation.fingerprint if observation is not None else None


def _work(kind: AnyKind, verb: str) -> str:
    name = getattr(kind, verb, None)
    if not isinstance(name, str):
        raise AifwError(f"the kind `{kind.name}` cannot {verb}")
    return name


def _job(
    order: Order, kind: AnyKind, folder: Path, asked: Control, report: Callable[[str, Mapping[str, Any]], None]
) -> Job[Any]:
    out = folder / "out"
    out.mkdir(exist_ok=True)
    return Job(
        settings=kind.settings.model_validate(order.settings),
        out=out,
        inputs={
            field: Input(each["address"], Path(each["path"]), each["facts"], each["digest"])
            for field, each in order.inputs.items()
        },
        root=Path(order.root),
        device=order.device,
        threads=order.threads,
        memory=order.memory,
        seed=order.seed,
        key=order.key,
        resume=Path(order.resume) if order.resume else None,
        previous=Path(order.previous) if order.previous else None,
        outputs=tuple(kind.produces),
        offline=order.offline,
        existing=order.existing,
        spec=order.spec,
        look=order.look,
        cache_root=Path(order.cache),
        checkpoints=Path(order.checkpoints),
        report=report,
        asked=asked,
    )


def _merged(facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {name: value for group in facts.values() for name, value in group.items()}


if __name__ == "__main__":
    # Threads of libraries may still run; the result is on disk, so nothing is lost by not waiting for them.
    status = main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    _leave(status)
