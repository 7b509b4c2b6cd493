"""The recipe's `pack:` section."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class PackSpec(BaseModel):
    """How a pick is written.

    Attributes:
        samples: samples in a file at most; files differ by one sample at most.
        format: "webdataset" (tars of image, .txt and .json), or "parquet" with the image bytes inside.
        repeat: "copies" writes a sample as often as the pick says; "weight" writes it once, with the
            number as `weight` in its .json. Never both.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    samples: int = Field(default=10_000, ge=1)
    format: Literal["webdataset", "parquet"] = "webdataset"
    repeat: Literal["copies", "weight"] = "copies"

    @property
    def suffix(self) -> str:
        return "tar" if self.format == "webdataset" else "parquet"
