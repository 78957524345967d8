"""Tasks of lm-evaluation-harness, run on a model as `aifw` loads it: rows of suite `lm_eval`.

The harness (Gao et al., "A framework for few-shot language model evaluation") is an extra, and only imported here. It keeps the data of
its tasks in a cache of its own, which `aifw fetch` fills. A task of your own is a YAML file with `dataset_path: json` and
`dataset_kwargs: {data_files: ...}`; what is Python in it, such as `!function`, runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from aifw.errors import DependencyMissing, InputInvalid
from aifw.evaluation.kinds import EvaluateSettings, HarnessOptions
from aifw.evaluation.measures import Measure, named
from aifw.evaluation.runs import Rows
from aifw.evaluation.runs.side import Side
from aifw.job import Job
from aifw.models.load import LanguageModel, quiet

_NO_FILTER = "none"
_BATCH = 8
_MOST_POSITIONS = 2048


def fetch(job: Job[EvaluateSettings]) -> None:
    """Bring the data of tasks into the harness's own cache; offline, see that they are there.

    Raises:
        DependencyMissing: The harness is not installed.
        InputInvalid: There is no such task, or its data cannot be loaded.
    """
    if job.settings.harness is not None:
        HarnessRun(job.settings.harness, job.root, offline=job.offline)


class HarnessRun:
    """See the module. Tasks and their data are loaded first, so that what is missing is said before a model is.

    Args:
        options: Which tasks, and how much of each.
        root: Relative paths of tasks start here.
        offline: The network must not be used.

    Raises:
        DependencyMissing: The harness is not installed.
        InputInvalid: There is no such task, or its data cannot be loaded.
    """

    suites: tuple[str, ...] = ("lm_eval",)
    steps = 0

    def __init__(self, options: HarnessOptions, root: Path, *, offline: bool) -> None:
        self._options = options
        self._rows: dict[str, list[dict[str, Any]]] = {}
        with quiet() if offline else nullcontext(), _silent():
            try:
                from lm_eval import simple_evaluate
                from lm_eval.tasks import TaskManager
            except ImportError as error:
                raise DependencyMissing(
                    f"`harness` needs lm-evaluation-harness, which cannot be imported: {error}",
                    hint="pip install 'aifw[lm-eval]'",
                ) from error
            self._evaluate = simple_evaluate
            self._manager = TaskManager()
            self._tasks = [_task(name, root, self._manager) for name in options.tasks]
            with self._failing("cannot load"):
                self._manager.load(self._tasks)

    def measure(self, side: Side, _items: Any = None) -> None:
        """Run all tasks.

        Raises:
            InputInvalid: The harness fails, or the model is not one that it can run.
        """
        with quiet(), _silent():
            found = self._evaluated(side)
        rows, left_out = rows_of_results(found)
        for note in left_out:
            side.job.note(note)
        if not rows:
            raise InputInvalid(f"the tasks {', '.join(self._options.tasks)} gave no number that is reported")
        self._rows[side.name] = rows

    def rows(self, side: str) -> Rows:
        """A row for each item of each task."""
        return {"lm_eval": self._rows[side]}

    def _evaluated(self, side: Side) -> Mapping[str, Any]:
        """What the harness returns."""
        from lm_eval.models.huggingface import HFLM

        model, options, seed = side.model, self._options, side.job.seed
        if not isinstance(model, LanguageModel):
            raise InputInvalid(
                f"{side.source.address} is a model of OpenVINO, which the harness does not run",
                hint="run the tasks on the model it was exported from",
            )
        side.job.obey()
        with self._failing("failed at"):
            wrapped = HFLM(
                pretrained=model.module,
                tokenizer=model.tokenizer,
                backend="causal",
                batch_size=_BATCH,
                max_length=min(model.context, _MOST_POSITIONS),
                truncation=True,
            )
            found = self._evaluate(
                wrapped,
                tasks=list(self._tasks),
                num_fewshot=options.few_shot,
                limit=options.limit,
                bootstrap_iters=0,
                log_samples=True,
                apply_chat_template=options.chat_template,
                task_manager=self._manager,
                random_seed=seed,
                numpy_random_seed=seed,
                torch_random_seed=seed,
                fewshot_random_seed=seed,
            )
        assert found is not None
        return dict(found)

    @contextmanager
    def _failing(self, how: str) -> Iterator[None]:
        """Say in words what the harness says in tracebacks of its own."""
        try:
            yield
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError) as error:
            raise InputInvalid(
                f"lm-evaluation-harness {how} {', '.join(self._options.tasks)}: {type(error).__name__}: {_first(error)}",
                hint="the data of its tasks come with `aifw fetch`, or are files beside a task of your own",
            ) from error


def _task(name: str, root: Path, manager: Any) -> str:
    """A task as the harness takes it."""
    if name.endswith((".yaml", ".yml")):
        path = root / Path(name).expanduser()
        if not path.is_file():
            raise InputInvalid(f"there is no task at {path}", hint="paths in `tasks` are relative to the spec")
        return str(path)
    if name not in manager.all_tasks:
        import difflib

        close = difflib.get_close_matches(name, manager.all_tasks, n=1)
        raise InputInvalid(
            f"lm-evaluation-harness has no task `{name}`",
            hint=f"did you mean `{close[0]}`?" if close else "`lm-eval ls tasks` lists them; a path ends with .yaml",
        )
    return name


def rows_of_results(found: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of suite `lm_eval` from what the harness returns, and what was left out, a sentence each.

    Args:
        found: As `lm_eval.simple_evaluate` gives it, with samples.
    """
    rows: list[dict[str, Any]] = []
    left_out: list[str] = []
    for task, samples in sorted(found.get("samples", {}).items()):
        items: dict[str, dict[str, Any]] = {}
        alone: set[str] = set()
        for sample in samples:
            name = f"{task}/{sample['doc_id']}"
            row = items.setdefault(name, {"id": name, "group": name, "item_digest": _digest(sample), "values": {}})
            for metric in sample["metrics"]:
                measure = measure_of(task, metric, sample["filter"])
                value = sample[metric]
                if isinstance(value, bool | int | float) and math.isfinite(value) and measure.form == "mean":
                    row["values"][measure.name] = float(value)
                else:
                    alone.add(measure.name)
        corpus = {}
        for key, value in found["results"].get(task, {}).items():
            metric, comma, kept = key.partition(",")
            if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            measure = measure_of(task, metric, kept)
            higher = found.get("higher_is_better", {}).get(task, {}).get(metric)
            if higher is not None and higher != (measure.better == "higher"):
                for row in items.values():
                    row["values"].pop(measure.name, None)
                left_out.append(f"{measure.name} is left out: the harness says that {_direction(higher)} is better")
            elif measure.form == "observed" and math.isfinite(value):
                corpus[measure.name] = float(value)
            elif measure.name in alone:
                left_out.append(
                    f"{measure.name} is left out: the harness has no number for each item (all: {value:.4g})"
                )
                for row in items.values():
                    row["values"].pop(measure.name, None)
        made = [row for row in items.values() if row["values"]] or list(items.values())[:1]
        if corpus and made:
            made[0]["corpus"] = corpus
        rows += [{key: value for key, value in row.items() if value} for row in made if row["values"] or corpus]
    return rows, left_out


def measure_of(task: str, metric: str, kept: str) -> Measure:
    """The measure a metric of a task is here."""
    parts = [task, metric] if kept in {"", _NO_FILTER} else [task, metric, kept]
    return named("/".join(part.replace("/", "_") for part in parts))


def _digest(sample: Mapping[str, Any]) -> str:
    return "-".join(str(sample.get(name, ""))[:16] for name in ("doc_hash", "target_hash"))


def _direction(higher: bool) -> str:
    return "higher" if higher else "lower"


def _first(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [""])[0][:300]


@contextmanager
def _silent() -> Iterator[None]:
    """Keep the harness from logging what it does and from asking the network for its own version."""
    import logging
    import warnings

    logger = logging.getLogger("lm_eval")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
