"""Sets of query pictures that `retrieve` looks for the likes of, as vectors in files."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from stages.query_vectors import VectorFile

NAME = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
_OF_CLUSTERS = ("hits", "per_cluster", "most")


class QuerySet(BaseModel):
    """One set of queries, and how it is looked for: by the nearest of each, or by clusters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=NAME, description="stands in verdicts.")
    path: str = Field(min_length=1, description="of its vectors: a .npy file (n, dim), or parquet.")
    column: str = Field(default="vector", min_length=1, description="of a parquet file: lists of floats.")
    nearest: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="so many samples for each query, the nearest ones; left out, the set is looked for by clusters.",
    )
    hits: int = Field(default=3, ge=0, description="clusters that are nearest to more queries than this give samples.")
    per_cluster: int = Field(default=10_000, ge=1, description="samples of each such cluster, drawn; or all it has.")
    most: int = Field(
        default=1_000_000, ge=1, le=20_000_000, description="samples of all clusters, drawn where they give more."
    )

    @field_validator("path")
    @classmethod
    def _absolute(cls, value: str) -> str:
        """The same file in every worker."""
        return str(Path(value).expanduser().absolute())

    @model_validator(mode="after")
    def _one_way(self) -> QuerySet:
        both = [name for name in _OF_CLUSTERS if name in self.model_fields_set]
        if self.nearest is not None and both:
            raise ValueError(f"queries {self.name}: nearest, or {both[0]}, which is of clusters; not both")
        return self

    def file(self) -> VectorFile:
        return VectorFile(self.path, self.column, f"retrieve, {self.name}")
