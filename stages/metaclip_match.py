"""Which entries of MetaCLIP's metadata a text contains.

    columns:                                                        # in a recipe
      - metaclip_match: {metadata: metadata.json}
      - metaclip_match: {metadata: metadata/, language: lang}       # MetaCLIP 2: a list a language
    filters:
      - metaclip: {metadata: metadata.json, t: 20000, over: survivors}

Papers: Xu et al. 2023, "Demystifying CLIP Data" (arXiv 2309.16671); with `language`, Chuang et al. 2025, "Meta CLIP 2:
A Worldwide Scaling Recipe" (arXiv 2507.22062). Followed: facebookresearch/MetaCLIP, `substr_matching.py` of both
versions; how, and what `fixed` mends: `stages.entry_matcher`. Which list the labels of a language identifier go to is
for the user to say (the published table is empty): name the files by the labels.
Weights: none; lists: as published (`metadata.json`, 500,000 entries), or by `curate metadata build`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import PrivateAttr, field_validator

from stages.base import TEXT, Batch, Column, Need, Source, Stage
from stages.entry_matcher import Mode, Padding, open_matcher
from stages.metaclip_lists import absolute, lists, numbers


class MetaclipMatch(Stage):
    """Column `match_ids`, list<uint32>: numbers of the entries, ascending, each once; null where there is no text.

    An entry's number is its place in its list, from 0. Lists are loaded when their first text comes.

    Args:
        metadata: a JSON file of entries; with `language`, a folder of <label>.json.
        mode: "faithful" or "fixed"; see `stages.entry_matcher`.
        language: column with the label of each text's language: entries are padded a side at a time, as in MetaCLIP 2.

    Example:
        stage = MetaclipMatch(metadata="metadata.json")
        stage.run(Batch.of(pa.table({"text": ["A hot dog, in New York!"]})))      # match_ids [[0, 1, 2]]
    """

    metadata: str
    mode: Mode = "faithful"
    language: Source | None = None
    _opened: dict[str, str] | None = PrivateAttr(default=None)

    @field_validator("metadata")
    @classmethod
    def _absolute(cls, value: str) -> str:
        return absolute(value)

    @property
    def padding(self) -> Padding:
        return "both" if self.language is None else "per_side"

    def lists(self) -> dict[str, str]:
        """Label -> file, as `stages.metaclip_lists.lists`."""
        return lists(self.metadata, self.language is not None)

    def files(self) -> tuple[str, ...]:
        """The lists.

        Raises:
            ValueError: there are none, and what to do.
        """
        return tuple(self.lists().values())

    def identity(self) -> dict[str, Any]:
        """With lists by label, so that equal lists at two places are one stage."""
        found = super().identity()
        found["parameters"]["metadata"] = self.lists()
        return found

    def reads(self) -> tuple[Column, ...]:
        return (TEXT,) if self.language is None else (TEXT, self.language)

    def writes(self) -> pa.Schema:
        return pa.schema([("match_ids", pa.list_(pa.uint32()))])

    def need(self) -> Need:
        """Memory: 500,000 entries, 8 MB of JSON, take 0.1 GB, and twice that while they are read."""
        size = sum(Path(f).stat().st_size for f in lists_there(self))
        return Need(memory_gb=1 + 25 * size / 1e9)

    def open(self) -> None:
        """Load the single list, so that a bad one is known at once.

        Raises:
            ValueError: a list is not JSON, or has an entry twice.
        """
        self._opened = self.lists()
        if self.language is None:
            self._matched(self._opened[""], pa.array([], pa.string()))

    def run(self, batch: Batch) -> pa.Table:
        if self._opened is None:
            self.open()
        labelled = self._opened or {}
        texts = batch[TEXT]
        spoken = None if self.language is None else batch[self.language]
        home = numbers(tuple(labelled), spoken, batch.num_rows)
        pieces, rows = [], []
        for number, path in enumerate(labelled.values()):
            mine = np.flatnonzero(home == number)
            if len(mine):
                pieces.append(self._matched(path, texts.take(pa.array(mine))))
                rows.append(mine)
        nowhere = np.flatnonzero(home < 0)
        silent = texts.take(pa.array(nowhere)).is_null().to_pylist()
        pieces.append(pa.array([None if null else [] for null in silent], pa.list_(pa.uint32())))
        order = np.argsort(np.concatenate([*rows, nowhere]))
        return pa.table([pa.concat_arrays(pieces).take(pa.array(order))], schema=self.writes())

    def _matched(self, path: str, texts: pa.Array) -> pa.ListArray:
        return open_matcher(path, self.mode, self.padding).match(texts)


def lists_there(stage: MetaclipMatch) -> tuple[str, ...]:
    """Its files; none where they are missing, which `files()` says where it is asked."""
    try:
        return stage.files()
    except ValueError:
        return ()
