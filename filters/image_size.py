"""Bounds on the size of the picture as it was received, before anything was resized for storage.

    - image_size: {min_side: 200, max_aspect: 3.0}      # DataComp's basic filter, and COYO

DataComp (Gadre et al. 2023), `baselines/apply_filter.py`: min(w, h) >= 200 and max(w, h) / min(w, h) <= 3.0.
"""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from filters.base import Bound, Margin, RowFilter, sql_number


class ImageSize(RowFilter):
    """Keeps pictures within all bounds that are given; each is inclusive, and its name is the reason.

    min_side: shorter side in pixels. max_side: longer side. min_pixels, max_pixels: width times height.
    max_aspect: longer side by shorter side.
    """

    min_side: int | None = Field(None, ge=1)
    max_side: int | None = Field(None, ge=1)
    max_aspect: float | None = Field(None, ge=1, allow_inf_nan=False)
    min_pixels: int | None = Field(None, ge=1)
    max_pixels: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _bounds_make_sense(self) -> Self:
        if not self.rules():
            raise ValueError("image_size needs a bound: min_side, max_side, max_aspect, min_pixels or max_pixels")
        for low, high in (("min_side", "max_side"), ("min_pixels", "max_pixels")):
            least, most = getattr(self, low), getattr(self, high)
            if least is not None and most is not None and least > most:
                raise ValueError(f"image_size: {low} {least} is above {high} {most}: nothing can pass")
        return self

    def reads(self) -> tuple[str, ...]:
        return ("original_width", "original_height")

    def rules(self) -> dict[str, str]:
        width, height = self.reads()
        pixels = f"{width}::BIGINT * {height}"
        rules = {}
        # Both sides are compared, as greatest() and least() would pass over a NULL.
        if self.min_side is not None:
            rules["min_side"] = f"{width} >= {self.min_side} AND {height} >= {self.min_side}"
        if self.max_side is not None:
            rules["max_side"] = f"{width} <= {self.max_side} AND {height} <= {self.max_side}"
        if self.max_aspect is not None:
            most = f"{sql_number(self.max_aspect)}::DOUBLE"  # the reference divides, in double
            rules["max_aspect"] = f"{width} / {height} <= {most} AND {height} / {width} <= {most}"
        if self.min_pixels is not None:
            rules["min_pixels"] = f"{pixels} >= {self.min_pixels}"
        if self.max_pixels is not None:
            rules["max_pixels"] = f"{pixels} <= {self.max_pixels}"
        return rules

    def margins(self) -> tuple[Margin, ...]:
        width, height = self.reads()
        # NULL where a side is NULL: least() and greatest() would give the other.
        shorter = f"CASE WHEN {width} <= {height} THEN {width} WHEN {width} > {height} THEN {height} END"
        longer = f"CASE WHEN {width} >= {height} THEN {width} WHEN {width} < {height} THEN {height} END"
        aspect = f"greatest({width} / {height}, {height} / {width})"
        found = (
            Margin("shorter side", shorter, self._bounds("min_side")),
            Margin("longer side", longer, self._bounds("max_side")),
            Margin("longer by shorter side", aspect, self._bounds("max_aspect")),
            Margin("pixels", f"{width}::BIGINT * {height}", self._bounds("min_pixels", "max_pixels")),
        )
        return tuple(m for m in found if m.bounds)

    def _bounds(self, *names: str) -> tuple[Bound, ...]:
        given = [(name, getattr(self, name)) for name in names]
        return tuple(
            (float(at), "above" if name.startswith("min") else "below", f"{name} {sql_number(at)}")
            for name, at in given
            if at is not None
        )
