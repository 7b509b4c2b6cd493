"""Texts in the languages that are wanted.

    - language: {keep: [en]}                       # DataComp: fastText's best label is "en", no floor
    - language: {keep: [en, de], min_prob: 0.5}

DataComp (Gadre et al. 2023), `baselines/apply_filter.py`. Names are those of the model: see `stages/language.py`.
"""

from __future__ import annotations

import struct

from pydantic import Field, field_validator

from filters.base import Margin, RowFilter, sql_number, sql_string


class Language(RowFilter):
    """Keeps texts whose `lang` is among `keep`, and whose `lang_prob` is at least `min_prob` where that is given.

    Reasons: "language", "low_probability". Text without a word has no language: `on_missing` decides.

    keep: languages as the model names them, such as en, de, zh. min_prob: least probability of the best answer, 0 to 1.
    """

    keep: tuple[str, ...] = Field(min_length=1)
    min_prob: float | None = Field(None, ge=0, le=1)

    @field_validator("keep")
    @classmethod
    def _bare_names(cls, keep: tuple[str, ...]) -> tuple[str, ...]:
        for name in keep:
            if not name or name != name.strip().lower() or name.startswith("__label__"):
                raise ValueError(f"language: keep names as the model gives them, like en or zh, not {name!r}")
        return keep

    def reads(self) -> tuple[str, ...]:
        return ("lang",) if self.min_prob is None else ("lang", "lang_prob")

    def rules(self) -> dict[str, str]:
        rules = {"language": f"lang IN ({', '.join(map(sql_string, self.keep))})"}
        if self.min_prob is not None:
            # The column is a float32: 0.7 as a double is above 0.7 as a float.
            rules["low_probability"] = f"lang_prob >= {sql_number(self.min_prob)}::FLOAT"
        return rules

    def margins(self) -> tuple[Margin, ...]:
        if self.min_prob is None:
            return ()
        (least,) = struct.unpack("f", struct.pack("f", self.min_prob))  # as the rule compares
        return (Margin("lang_prob", "lang_prob", ((least, "above", f"min_prob {sql_number(self.min_prob)}"),)),)
