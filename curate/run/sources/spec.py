"""The recipe's `source:` section: where a list lies and what its columns are called."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

AUTO = "auto"
SUFFIXES = re.compile(r"(\.(parquet|csv|tsv|jsonl|ndjson|json|tar|gz))+$", re.IGNORECASE)


class SourceSpec(BaseModel):
    """What to read. Column names: "auto" guesses among common ones, null says that there is none.

    source:
      path: s3://bucket/laion/*.parquet      # glob or globs; local or any URL that fsspec opens
      url: URL                               # of a table, or key of a tar's .json
      text: TEXT                             # of a list<string>, the first is the text
      keep: [similarity, pwatermark]         # further columns to carry along
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str | Annotated[tuple[str, ...], Field(min_length=1)]
    kind: Literal["auto", "urls", "webdataset", "folder", "parquet"] = Field(
        default="auto",
        description="urls: a table of URLs; webdataset: tars; folder: of images; parquet: with image bytes",
    )
    name: str | None = Field(default=None, description="of the list; by default made from the path")
    url: str | None = AUTO
    text: str | None = AUTO
    uid: str | None = Field(default=AUTO, description="column of the samples' own names; null: made of text and url")
    sha256: str | None = Field(
        default=AUTO,
        description="expected digest of the bytes. Of tars only where named: downloaders write there the digest of "
        "what they received, not of what they stored",
    )
    image: str | None = Field(default=AUTO, description="column of encoded bytes; kind parquet")
    keep: tuple[str, ...] | Literal["all"] = "all"
    table: str | None = Field(default=None, description="of a folder: csv, tsv, jsonl or parquet that names its files")
    file: str | None = Field(default=AUTO, description="column of `table` with the name of the image file")
    quotes: bool = Field(default=True, description='csv and tsv: fields may stand in "quotes"')

    @field_validator("path", "keep", mode="before")
    @classmethod
    def _tuples(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", value):
            raise ValueError(f"name {value!r}: use a-z, 0-9, _ and -; for example {sanitised(value) or 'my_list'!r}")
        return value

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.path,) if isinstance(self.path, str) else self.path

    @property
    def list_name(self) -> str:
        """The name given, else the stem of the first path, else the folder that it is in."""
        if self.name:
            return self.name
        path = PurePosixPath(self.paths[0].split("://")[-1]) if self.paths else PurePosixPath()
        candidates = [sanitised(SUFFIXES.sub("", part)) for part in reversed(path.parts)]
        return next((c for c in candidates if c), "list")


def sanitised(text: str) -> str:
    """`text` in the letters that a list's name may have."""
    return re.sub(r"[^a-z0-9_-]+", "_", text.lower()).strip("_-")
