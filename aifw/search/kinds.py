"""Kinds of the section `retrieval` that need no model: stored vectors from a file, and the exact index over vectors.

Vectors stand in `retrieval` and not in `datasets`: they are what an index is made from, whoever made them. A spec that begins with
a file can let embeddings of its own documents take the entry's place later, and nothing that refers to it changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, WithJsonSchema, field_validator, model_validator
from pydantic_core import PydanticCustomError

from aifw.errors import InputInvalid
from aifw.hardware.machine import Machine
from aifw.kind import ArtifactKind, Estimate, Forecast, History, InputFacts, Observation, Output, Past, Workspace
from aifw.search.arrays import ITEM_BYTES, MOST_DIMENSIONS, NUMPY, SAFETENSORS, Array, read_arrays
from aifw.settings import Ref, Settings, execution

VECTOR_TYPES = ("float32", "float16", "bfloat16")
"""Types of number that are stored as they come; an index keeps float32, which holds the others exactly."""
ID_TYPES = ("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8")

# Measured with `aifw apply` on two cores of a server with AVX2, busy with other work, so times are process CPU seconds: vectors of
# 100,000 to 1,000,000 x 384, 200,000 x 768 and 3,000,000 x 16 with ids, and an index of each, built with one thread and with two.
_SECONDS_TO_START = 0.5
_SECONDS_PER_BYTE_STORED = 4e-9
_SECONDS_PER_NUMBER_WRITTEN = 1.3e-8
_SECONDS_PER_NUMBER_CODED = 2.5e-8
"""By one thread; the others share it."""
_NUMBERS_OF_A_ROW = 10
"""A row takes as long as so many numbers, and then its own."""
_WORKER_BYTES = 25.7 * 1024**2
"""Anonymous and shared memory of a worker with numpy. This and the buffers: measured with Python 3.11 on x86_64, at 40 to 100,000 rows."""
_STORING_BUFFERS = 8 * 1024**2
"""Most of the vectors that are held at once, in either kind."""
_STORING_BYTES_PER_GIVEN_ID = 14
_INDEXING_BUFFERS = 16 * 1024**2
_INDEXING_BYTES_PER_ROW = 16
_INDEXING_BYTES_PER_GIVEN_ID = 44
_FILE_BYTES_PER_NUMBER = 5.4
_MOST_MAPPED = 512 * 1024**2
"""Of the file an index is written to; these are pages of a file, not memory that would be missing elsewhere."""
_UNKNOWN_ROWS = 100_000
_UNKNOWN_DIMENSIONS = 768


class StoredVectors(Output):
    """`vectors.json` and parts `00000.safetensors`, `00001.safetensors`, ... with tensors `vectors` (rows x dimensions) and `ids` (64 bits).

    Every part but the last has the same number of rows, given by dimensions and type alone, and `vectors.json` has the sha256 of
    each part's vectors and ids: who knows a former state finds out what was added without reading the rest. All numbers are
    finite and no id occurs twice. `aifw.search.stored` writes and reads it.

    Facts: `rows`, `dimensions`, `dtype` (float32, float16 or bfloat16), `ids` (`positions` if they count the rows from 0, else `given`), `parts`.
    """

    name = "stored_vectors"


class VectorIndex(Output):
    """An `aifw.search.Index` as it saves itself, and `source.json`: which vectors it was made from.

    Facts: `rows`, `dimensions`, `metric`.
    """

    name = "vector_index"


class VectorsSettings(Settings):
    """Settings of `vectors`."""

    path: Annotated[str, WithJsonSchema({"type": "string", "pattern": r"\.(npy|safetensors)$"})]
    """A `.npy` or `.safetensors` file of rows of float32, float16 or (safetensors only) bfloat16. Rows that are added at its end are recognised."""
    tensor: str | None = None
    """Name of the tensor of vectors in a `.safetensors` file. Default: `vectors`, or the only one with two dimensions."""
    ids: Annotated[str, WithJsonSchema({"type": "string", "pattern": r"\.npy$"})] | None = None
    """A `.npy` file with a whole number of up to 64 bits for each row. Default: the rows' positions from 0."""
    ids_tensor: str | None = None
    """Name of the tensor of ids in the same `.safetensors` file."""

    @field_validator("path")
    @classmethod
    def _known_format(cls, path: str) -> str:
        return _ends(path, (NUMPY, SAFETENSORS))

    @field_validator("ids")
    @classmethod
    def _known_format_of_ids(cls, ids: str | None) -> str | None:
        return ids if ids is None else _ends(ids, (NUMPY,))

    @model_validator(mode="after")
    def _tensors_have_a_file(self) -> Self:
        named = {"tensor": self.tensor, "ids_tensor": self.ids_tensor}
        for name, value in named.items():
            if value is not None and not self.path.endswith(SAFETENSORS):
                raise PydanticCustomError("tensor", "`{name}` is for a .safetensors file", {"name": name})
        if self.ids is not None and self.ids_tensor is not None:
            raise PydanticCustomError("tensor", "ids come from either `ids` or `ids_tensor`")
        return self


class IndexSettings(Settings):
    """Settings of `index`."""

    vectors: Ref[StoredVectors]
    """The vectors to index."""
    metric: Literal["cosine", "inner_product", "l2"] = "cosine"
    """How near two vectors are. `l2` orders by squared Euclidean distance."""
    threads: Annotated[int | None, Field(ge=1, le=4096), execution] = None
    """Processor threads to build with. Default: what the job is given."""


class Vectors(ArtifactKind[VectorsSettings]):
    """Vectors from a file, checked and frozen as they were when they were read."""

    name = "vectors"
    section = "retrieval"
    settings = VectorsSettings
    produces: ClassVar[Mapping[str, type[Output]]] = {"vectors": StoredVectors}
    requires: ClassVar[Mapping[str, str]] = {"numpy": "search"}
    run = "aifw.search.jobs:store_vectors"
    workload = "data"

    def observe(self, settings: VectorsSettings, workspace: Workspace) -> Observation:
        """Fingerprint of the files; their headers say how many rows there are.

        Raises:
            InputInvalid: A file is not there, or holds something else.
        """
        vectors, ids = locate(settings, workspace.path)
        digests = [workspace.digest_of(vectors.path)]
        if ids is not None and ids.path != vectors.path:
            digests.append(workspace.digest_of(ids.path))
        rows, dimensions = vectors.shape
        return Observation(
            fingerprint=" ".join(digests),
            summary=f"{rows:,} x {dimensions:,} {vectors.dtype}",
            facts={"rows": rows, "dimensions": dimensions, "dtype": vectors.dtype},
        )

    def forecast(
        self, settings: VectorsSettings, inputs: Mapping[str, InputFacts], machine: Machine, history: History
    ) -> Forecast:
        """Vectors pass through in blocks; ids are held to find one that occurs twice. Time grows with bytes."""
        observed = inputs["observation"].facts if "observation" in inputs else {}
        size = _Size(observed)
        given = settings.ids is not None or settings.ids_tensor is not None
        memory = (
            _WORKER_BYTES
            + min(size.bytes, _STORING_BUFFERS)
            + size.rows * (_STORING_BYTES_PER_GIVEN_ID if given else 0)
        )
        needed = _memory(memory, 0, size)
        return Forecast(
            memory=needed,
            seconds=_seconds(size.bytes, _SECONDS_PER_BYTE_STORED, size, history),
            basis=_basis(size, history),
            work=size.bytes,
            uncorrected=_stated(needed, size.bytes * _SECONDS_PER_BYTE_STORED, history),
            facts={"vectors": size.facts | {"ids": "given" if given else "positions"}},
        )


class Index(ArtifactKind[IndexSettings]):
    """An exact nearest-neighbour index. Where most vectors are those of the former index, only the others are indexed."""

    name = "index"
    section = "retrieval"
    settings = IndexSettings
    produces: ClassVar[Mapping[str, type[Output]]] = {"index": VectorIndex}
    requires: ClassVar[Mapping[str, str]] = {"numpy": "search"}
    run = "aifw.search.jobs:build_index"
    cores = "all"
    workload = "vector_search"

    def forecast(
        self, settings: IndexSettings, inputs: Mapping[str, InputFacts], machine: Machine, history: History
    ) -> Forecast:
        """As if all rows had to be indexed; where there were earlier runs, the least time is that of a former index that lacks little."""
        vectors = inputs["vectors"] if "vectors" in inputs else InputFacts("", {}, certain=False)
        size = _Size(vectors.facts)
        threads = min(settings.threads or machine.cpu.cores, machine.cpu.cores)
        numbers = size.rows * (size.dimensions + _NUMBERS_OF_A_ROW)
        given = vectors.facts.get("ids") == "given"
        per_row = _INDEXING_BYTES_PER_GIVEN_ID if given else _INDEXING_BYTES_PER_ROW
        memory = _WORKER_BYTES + min(size.bytes, _INDEXING_BUFFERS) + size.rows * per_row
        mapped = min(_MOST_MAPPED, numbers * _FILE_BYTES_PER_NUMBER) if size.known else _MOST_MAPPED
        rate = _SECONDS_PER_NUMBER_WRITTEN + _SECONDS_PER_NUMBER_CODED / threads
        seconds = _seconds(numbers, rate, size, history)
        needed = _memory(memory, mapped, size)
        return Forecast(
            memory=needed,
            seconds=replace(seconds, low=_SECONDS_TO_START / 2) if _timed(history) else seconds,
            basis=_basis(size, history) + ("; less if most vectors are those of before" if _timed(history) else ""),
            work=numbers,
            uncorrected=_stated(needed, numbers * rate, history),
            facts={"index": {**size.facts, "metric": settings.metric}},
        )


class _Size:
    """How much there is to do, as far as it is known."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self.known = "rows" in facts and "dimensions" in facts
        self.rows = float(facts.get("rows", _UNKNOWN_ROWS))
        self.dimensions = float(facts.get("dimensions", _UNKNOWN_DIMENSIONS))
        self.bytes = self.rows * self.dimensions * ITEM_BYTES.get(str(facts.get("dtype")), 4)
        self.facts = {name: facts[name] for name in ("rows", "dimensions", "dtype") if name in facts}

    def __str__(self) -> str:
        text = f"{self.rows:,.0f} x {self.dimensions:,.0f}"
        return text if self.known else f"{text} assumed; rows and dimensions are not known yet"


def _memory(mid: float, mapped: float, size: _Size) -> Estimate:
    """The middle is without the page cache, which goes back to the system under pressure; the upper end has what is mapped of it."""
    return Estimate(mid * 0.6, mid, mid * (1.35 if size.known else 12) + mapped)


def _seconds(work: float, rate: float, size: _Size, history: History) -> Estimate:
    """From the measured rate of this machine, where there is one, else from the default one.

    A run that found most of its work done before counts like any other: the middle is what runs take here, the upper end what a
    run takes that does everything.
    """
    rates = sorted(max(0.0, past.seconds - _SECONDS_TO_START) / past.work for past in _timed(history))
    if rates:
        low, mid, high = rates[0] * 0.8, rates[len(rates) // 2], max(1.25 * rates[-1], rate)
    else:
        low, mid, high = rate / 3, rate, rate * 4
    if not size.known:
        low, high = low / 10, high * 10
    low, mid, high = (_SECONDS_TO_START * start + work * each for start, each in ((0.6, low), (1, mid), (2, high)))
    return Estimate(low, mid, high)


def _timed(history: History) -> list[Past]:
    return [past for past in history.past if past.work > 0 and not past.exceeded]


def _stated(memory: Estimate, seconds: float, history: History) -> tuple[float, float] | None:
    """The middles before the time was corrected here: the planner's correction knows nothing of work that was done before."""
    return (memory.mid, _SECONDS_TO_START + seconds) if _timed(history) else None


def _basis(size: _Size, history: History) -> str:
    runs = len(_timed(history))
    return f"{size}, " + (f"{runs} earlier run{'' if runs == 1 else 's'}" if runs else "a default speed")


def locate(settings: VectorsSettings, path: Callable[[str], Path]) -> tuple[Array, Array | None]:
    """The vectors that settings name, and their ids if they name those.

    Args:
        settings: Of `vectors`.
        path: Makes a path out of one in a spec.

    Raises:
        InputInvalid: A file is not there, is broken, or holds something else.
    """
    file = path(settings.path)
    arrays = read_arrays(file)
    vectors = arrays[""] if "" in arrays else _tensor(file, arrays, settings.tensor)
    if len(vectors.shape) != 2:
        raise InputInvalid(f"{vectors} has shape {vectors.shape}", hint="vectors are rows x dimensions")
    if vectors.dtype not in VECTOR_TYPES:
        raise InputInvalid(
            f"{vectors} holds {vectors.dtype}, not {', '.join(VECTOR_TYPES[:-1])} or {VECTOR_TYPES[-1]}",
            hint='`vectors.astype("float32")` makes vectors that can be stored',
        )
    if not all(vectors.shape):
        raise InputInvalid(f"{vectors} is empty: its shape is {vectors.shape}")
    if vectors.shape[1] > MOST_DIMENSIONS:
        raise InputInvalid(
            f"{vectors} has vectors of {vectors.shape[1]:,} dimensions; an index takes at most {MOST_DIMENSIONS:,}",
            hint="vectors are rows x dimensions: is it the other way round?",
        )
    if settings.ids is not None:
        ids = read_arrays(path(settings.ids))[""]
    elif settings.ids_tensor is not None:
        ids = _named(file, arrays, settings.ids_tensor)
    else:
        return vectors, None
    if ids.dtype not in ID_TYPES:
        raise InputInvalid(f"{ids} holds {ids.dtype}", hint="ids are whole numbers of up to 64 bits")
    if ids.shape != vectors.shape[:1]:
        raise InputInvalid(
            f"{ids} has shape {ids.shape}",
            hint=f"there are {vectors.shape[0]:,} vectors, so it has to be ({vectors.shape[0]},)",
        )
    return vectors, ids


def _tensor(file: Path, arrays: Mapping[str, Array], name: str | None) -> Array:
    if name is not None:
        return _named(file, arrays, name)
    if "vectors" in arrays:
        return arrays["vectors"]
    flat = [array for array in arrays.values() if len(array.shape) == 2]
    if len(flat) != 1:
        raise InputInvalid(
            f"{file} has no tensor `vectors`, and {len(flat)} with two dimensions",
            hint=f"name one with `tensor`. There {'is' if len(arrays) == 1 else 'are'} {', '.join(sorted(arrays)[:8])}",
        )
    return flat[0]


def _named(file: Path, arrays: Mapping[str, Array], name: str) -> Array:
    if name not in arrays:
        raise InputInvalid(f"{file} has no tensor `{name}`", hint=f"it has {', '.join(sorted(arrays)[:8])}")
    return arrays[name]


def _ends(path: str, endings: tuple[str, ...]) -> str:
    if not path.endswith(endings):
        raise PydanticCustomError("format", "expected the path of a {endings} file", {"endings": " or ".join(endings)})
    return path
