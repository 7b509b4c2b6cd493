"""What a stage is: parameters in, one Arrow table of columns out, for each batch of samples.

    class Brightness(Stage):
        def reads(self): return (IMAGE,)
        def writes(self): return pa.schema([("brightness", pa.float32())])
        def run(self, batch):
            means = [None if im is None else float(im.mean()) for im in batch.images()]
            return pa.table({"brightness": pa.array(means, pa.float32())})

Nothing here knows of pools, recipes or Ray: a stage works in a notebook on `Batch.of(table, images)`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from stages.shape import Shape as Shape

ERROR = "error"  # the column that every stage's file has: null, or why this sample has no values


class StopRun(ValueError):
    """Raised by a stage for what no other try and no other sample mends, such as a server gone: the run ends."""


class Parameters(BaseModel):
    """Base of stages, barriers and filters: a frozen pydantic model whose fields are its parameters.

    Fields must be hashable (tuples, not lists). `version` rises only when output bytes change.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    version: ClassVar[int] = 1

    def __eq__(self, other: object) -> bool:
        """Equal by class and parameters: what `open()` loaded is no part of it."""
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __getstate__(self) -> dict[Any, Any]:
        """Parameters alone travel to workers: weights are loaded there."""
        fresh = {
            name: made() if (made := private.default_factory) else private.get_default()  # type: ignore[call-arg, misc]
            for name, private in self.__private_attributes__.items()
        }
        return super().__getstate__() | {"__pydantic_private__": fresh or None}

    @classmethod
    def method(cls) -> str:
        """Name of the method in snake case, as it stands in folder names: ``ImageFacts -> image_facts``."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()

    @classmethod
    def import_path(cls) -> str:
        """``package.module:Class``, by which a worker finds the class again."""
        return f"{cls.__module__}:{cls.__qualname__}"

    def files(self) -> tuple[str, ...]:
        """Paths of weights and lists that the output depends on; their digests enter the fingerprint."""
        return ()

    def identity(self) -> dict[str, Any]:
        """Everything of the object itself that decides its output bytes, as JSON values."""
        built_in = type(self).__module__.split(".")[0] in ("stages", "filters")
        return {
            "name": self.method() if built_in else self.import_path(),
            "version": self.version,
            "parameters": self.model_dump(mode="json"),
        }


@dataclass(frozen=True, slots=True)
class Need:
    """The machine that one worker of a stage asks for, and how long a shard may take there."""

    cpus: float = 1
    gpus: float = 0
    memory_gb: float = 1
    deadline_s: float = 3600


@dataclass(frozen=True, slots=True)
class Column:
    """One column: `field` of the stage or barrier `owner`; without an owner, a fact of the pixel table."""

    owner: Stage | Barrier | None
    field: str


def fact(field: str) -> Column:
    """A column of ``pixels/*.parquet`` (uid, text, url, width, height, sha256, ...)."""
    return Column(None, field)


IMAGE = Column(None, "<image>")
TEXT = fact("text")
UID = fact("uid")


class _OfAnother:
    """How pydantic reads and writes a `Source`."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            self._column,
            serialization=core_schema.plain_serializer_function_ser_schema(lambda column: column.field),
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "minLength": 1}

    @staticmethod
    def _column(value: Any, info: ValidationInfo) -> Column:
        if isinstance(value, Column):
            return value
        if not isinstance(value, str) or not value:
            raise ValueError("expected the name of a column")
        known = (info.context or {}).get("columns", {})
        return known.get(value) or fact(value)


Source = Annotated[Column, _OfAnother()]
"""Type of a parameter that names a column of another stage: `class Cosine(Stage): a: Source; b: Source`.

In a recipe it is a plain name: of a fact, of an earlier entry of `columns:`, of a built-in stage, else of the input. In
Python a `Column`, or a string, which is a fact. What another owner wrote enters the hash by `reads()`, so only the name
stands among the parameters.
"""


class Batch:
    """Some rows of one shard: Arrow columns, and images decoded once however many stages ask.

    Rows, lists and arrays are all in shard order and of length `num_rows`.
    """

    def __init__(
        self,
        columns: Mapping[Column, pa.Array],
        num_rows: int,
        image_bytes: Callable[[int], bytes] | None = None,
    ) -> None:
        self._columns = dict(columns)
        self.num_rows = num_rows
        self._image_bytes = image_bytes
        self._decoded: dict[tuple[int | None, str], list[np.ndarray | None]] = {}
        self._errors: list[str | None] = [None] * num_rows

    @classmethod
    def of(cls, table: pa.Table, images: Sequence[bytes] | None = None) -> Batch:
        """A batch from a plain table of facts and, where a stage looks at pixels, encoded images."""
        columns = {fact(n): table.column(n).combine_chunks() for n in table.column_names}
        return cls(columns, table.num_rows, None if images is None else images.__getitem__)

    def __getitem__(self, column: Column | str) -> pa.Array:
        """The column as one Arrow array; a string names a fact.

        Raises:
            KeyError: the stage did not name the column in `reads()`.
        """
        key = fact(column) if isinstance(column, str) else column
        if key not in self._columns:
            have = ", ".join(sorted(c.field for c in self._columns))
            raise KeyError(f"column {key.field!r} was not asked for in reads(); this batch has: {have}")
        return self._columns[key]

    def add(self, columns: Mapping[Column, pa.Array]) -> None:
        """Let later stages of the same pass read what an earlier one wrote."""
        self._columns.update(columns)

    def image_bytes(self, row: int) -> bytes:
        """The encoded image as it is stored."""
        if self._image_bytes is None:
            raise KeyError("this batch has no images: name IMAGE in reads()")
        return self._image_bytes(row)

    def hold(self) -> None:
        """Read the encoded images now, and keep them: their file may be closed, or be read elsewhere, later."""
        if self._image_bytes is not None:
            self._image_bytes = [self._image_bytes(row) for row in range(self.num_rows)].__getitem__

    def images(self, side: int | None = None, mode: str = "RGB") -> list[np.ndarray | None]:
        """Decoded images, uint8, (height, width, 3) for RGB or (height, width) for L.

        Args:
            side: None for stored size; else squashed to side x side by area averaging.
            mode: "RGB" or "L".

        An image that does not decode is None, and `image_errors()` says why.
        """
        key = (side, mode)
        if key not in self._decoded:
            self._decoded[key] = [self._decode(row, side, mode) for row in range(self.num_rows)]
        return self._decoded[key]

    def each_image(self) -> Iterator[np.ndarray | None]:
        """As `images()`, one after the other, and not kept: for stages that hold much less of each than it is."""
        kept = self._decoded.get((None, "RGB"))
        return iter(kept) if kept is not None else (self._decode(row, None, "RGB") for row in range(self.num_rows))

    def image_errors(self) -> list[str | None]:
        """Per row: null, or why the image could not be decoded (known once it was asked for)."""
        return list(self._errors)

    def _decode(self, row: int, side: int | None, mode: str) -> np.ndarray | None:
        from stages.decode import DecodeError, to_array

        try:
            return to_array(self.image_bytes(row), side=side, mode=mode)
        except DecodeError as e:
            self._errors[row] = str(e)
            return None


class Stage(Parameters):
    """A pure function from a batch to columns: same batch in, same bytes out.

    With `sparse = True` it runs after the filters above it, for their survivors only; so does any stage that reads a
    column of such a one. With `ahead = True` threads call `prepare` for the batches to come also where there is no GPU:
    for stages that wait for another machine.
    """

    sparse: ClassVar[bool] = False
    ahead: ClassVar[bool] = False

    def reads(self) -> tuple[Column, ...]:
        """Columns that `run` looks at; IMAGE where it looks at pixels."""
        raise NotImplementedError(f"{type(self).__name__}.reads")

    def writes(self) -> pa.Schema:
        """Schema of the table that `run` returns; `error` (string) may be added by it and is always stored."""
        raise NotImplementedError(f"{type(self).__name__}.writes")

    def need(self) -> Need:
        return Need()

    def open(self) -> None:
        """Load weights, compile tables: called once a worker, before the first `run`."""

    def prepare(self, batch: Batch) -> None:
        """What of `run` needs no GPU, decoding above all: beside one, threads do it for the batches to come."""

    def run(self, batch: Batch) -> pa.Table:
        """Columns for the rows of the batch, in their order."""
        raise NotImplementedError(f"{type(self).__name__}.run")


# ---------------------------------------------------------------- phases: what barriers and global filters are made of


@dataclass(frozen=True, slots=True)
class ShardColumns:
    """Input: the columns named in `reads()` of one shard, plus `uid`; for a global filter also `asked`.

    generation: as in `Shape`, for those that treat what came earlier as older.
    """

    shard: int
    generation: int = 0


@dataclass(frozen=True, slots=True)
class PhaseFile:
    """Input: the output of an earlier phase, whole or one bucket of it; `owner` None means one's own."""

    phase: str
    part: str
    bucket: int | None = None
    owner: Barrier | None = None


Input = ShardColumns | PhaseFile


@dataclass(frozen=True)
class Phase:
    """One step of a barrier: for each part, the files it reads. The work itself is `run(phase, part, inputs)`.

    A `local` phase is reused when the pool grows: its parts are shard names and look at that shard only, or their names
    have the digest of all shards that they depend on (`Shape.digest`).
    `parts` may be a function of the statistics that earlier phases left in their footers:
    ``{phase: {part: stats}}``.
    """

    name: str
    parts: Sequence[str] | Callable[[Mapping[str, Mapping[str, Any]]], Sequence[str]]
    inputs: Callable[[str], Sequence[Input]]
    local: bool = False
    need: Need = Need()


@dataclass(frozen=True)
class Output:
    """What a phase returns for one part: one table, or one table a bucket; `stats` go to the footer (JSON)."""

    tables: pa.Table | Sequence[pa.Table]
    stats: Mapping[str, Any] | None = None


class Inputs:
    """The inputs of one part, loaded one at a time so that memory holds no more than the caller keeps."""

    def __init__(self, keys: Sequence[Input], load: Callable[[Input], pa.Table]) -> None:
        self.keys = tuple(keys)
        self._load = load

    def __iter__(self) -> Any:
        return (self._load(key) for key in self.keys)

    def __len__(self) -> int:
        return len(self.keys)

    def only(self) -> pa.Table:
        """The single input's table."""
        (key,) = self.keys
        return self._load(key)

    def load(self, key: Input) -> pa.Table:
        """The table of one of `keys`."""
        return self._load(key)

    def select(self, kind: type[ShardColumns] | type[PhaseFile], phase: str | None = None) -> Inputs:
        """The inputs of one kind, of one phase if named."""
        keys = [k for k in self.keys if isinstance(k, kind)]
        return Inputs([k for k in keys if phase is None or getattr(k, "phase", None) == phase], self._load)


def shard_name(shard: int) -> str:
    """Eight digits: the name of a shard in every folder, and of its part in a local phase."""
    return f"{shard:08d}"


class Barrier(Parameters):
    """A computation over all shards (dedup, clustering, pool-wide counts), as named, resumable phases.

    The last phase has one part a shard, row-aligned with it, with the schema `writes()`.
    One with a parameter `over` that is "survivors" runs after the filters above it and may read what only survivors
    have; its ShardColumns have a further column `asked`, and it writes null for whom it is not asked about.
    Output bytes must depend on the inputs only: neither on their order of completion nor on worker count.
    """

    def reads(self) -> tuple[Column, ...]:
        raise NotImplementedError(f"{type(self).__name__}.reads")

    def writes(self) -> pa.Schema:
        raise NotImplementedError(f"{type(self).__name__}.writes")

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        raise NotImplementedError(f"{type(self).__name__}.phases")

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        raise NotImplementedError(f"{type(self).__name__}.run")


def per_shard(name: str, shape: Shape, extra: Sequence[Input] = (), *, local: bool = False) -> Phase:
    """A phase with one part a shard that reads the shard's columns and, besides, the `extra` inputs."""
    return Phase(
        name,
        tuple(shard_name(s) for s in shape.shards),
        lambda part: (ShardColumns(int(part)), *extra),
        local=local,
    )


def tree(
    name: str,
    of: str,
    parts: Sequence[str],
    fan_in: int = 64,
    need: Need = Need(),
) -> tuple[Phase, ...]:
    """Phases that reduce the files `parts` of phase `of` to one file: ``<name>-0``, ... ; last part is "all".

    The reduction itself is the owner's `run`, called with phase names that start with `name`.
    """
    phases: list[Phase] = []
    level, below, left = 0, of, list(parts)
    while True:
        groups = [left[i : i + fan_in] for i in range(0, len(left), fan_in)] or [[]]
        names = ["all"] if len(groups) == 1 else [f"{i:08d}" for i in range(len(groups))]
        table = dict(zip(names, groups, strict=True))
        phases.append(_reduction(f"{name}-{level}", below, table, need))
        if len(groups) == 1:
            return tuple(phases)
        level, below, left = level + 1, f"{name}-{level}", names


def _reduction(name: str, below: str, table: dict[str, list[str]], need: Need) -> Phase:
    return Phase(name, tuple(table), lambda part: tuple(PhaseFile(below, p) for p in table[part]), need=need)
