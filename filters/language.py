"""Texts in the languages that are wanted.

    - language: {keep: [en]}                       # DataComp: fastText's best label is "en", no floor
    - language: {keep: [en, de], min_prob: 0.5}
    - language: {keep: [en], column: lang_cld3}    # DataComp's LAION-2B baseline: by the stage language_cld3

DataComp (Gadre et al. 2023), `baselines/apply_filter.py`. Names are those of the model: see `stages/language.py`.
"""

from __future__ import annotations

import struct
from typing import Any

from pydantic import Field, field_validator

from filters.base import Margin, RowFilter, sql_number, sql_string


class Language(RowFilter):
    """Keeps texts whose `lang` is among `keep`, and whose `lang_prob` is at least `min_prob` where that is given.

    Reasons: "language", "low_probability". Text without a word has no language: `on_missing` decides.

    keep: languages as the model names them, such as en, de, zh. min_prob: least probability of the best answer, 0 to 1.
    column: the language, where it is another stage's: lang_cld3; its probability is that name with `_prob`.
    """

    keep: tuple[str, ...] = Field(min_length=1)
    min_prob: float | None = Field(None, ge=0, le=1)
    column: str = Field("lang", pattern="^[A-Za-z_][A-Za-z0-9_]*$")

    @field_validator("keep")
    @classmethod
    def _bare_names(cls, keep: tuple[str, ...]) -> tuple[str, ...]:
        for name in keep:
            code = name.partition("-")[0]  # cld3 has zh-Latn
            if not code or name != name.strip() or code != code.lower() or name.startswith("__label__"):
                raise ValueError(f"language: keep names as the model gives them, like en or zh, not {name!r}")
        return keep

    def identity(self) -> dict[str, Any]:
        """Without the usual column, so that verdicts from before it could be another stay good."""
        found = super().identity()
        if self.column == "lang":
            del found["parameters"]["column"]
        return found

    @property
    def _prob(self) -> str:
        return f"{self.column}_prob"

    def reads(self) -> tuple[str, ...]:
        return (self.column,) if self.min_prob is None else (self.column, self._prob)

    def rules(self) -> dict[str, str]:
        rules = {"language": f"{self.column} IN ({', '.join(map(sql_string, self.keep))})"}
        if self.min_prob is not None:
            # The column is a float32: 0.7 as a double is above 0.7 as a float.
            rules["low_probability"] = f"{self._prob} >= {sql_number(self.min_prob)}::FLOAT"
        return rules

    def margins(self) -> tuple[Margin, ...]:
        if self.min_prob is None:
            return ()
        (least,) = struct.unpack("f", struct.pack("f", self.min_prob))  # as the rule compares
        return (Margin(self._prob, self._prob, ((least, "above", f"min_prob {sql_number(self.min_prob)}"),)),)
