"""Ten questions that are worth asking of a pool, made from the columns that this pool has.

for q in questions(handle): print(q.title, q.sql)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from curate.ask.funnel import pick_folders
from curate.ask.types import quoted
from filters.base import sql_string

if TYPE_CHECKING:
    from curate.ask.handle import Handle

COUNT = 10
SEEN = 500  # captions from which the word of the question about captions is taken


@dataclass(frozen=True)
class Question:
    """A title for a person and a query that runs on this pool."""

    title: str
    sql: str


def questions(handle: Handle) -> list[Question]:
    """Ten questions, the first of each kind that this pool has the columns for. Reads a few captions."""
    asked = _Asked(handle)
    made = [q for kind in asked.kinds() for q in kind]
    return made[:COUNT]


class _Asked:
    """What a pool's questions are made from."""

    def __init__(self, handle: Handle) -> None:
        self.handle = handle
        self.types = handle.known.types
        self.picks = [handle.pick] if handle.pick else pick_folders(handle.pool)
        self.fetched = bool(handle.sql("SELECT 1 FROM fetches LIMIT 1").fetchall())

    def kinds(self) -> Iterator[list[Question]]:
        """Eight kinds that are worth most where a pool has them, then such as every pool can answer."""
        yield self.languages()
        yield self.hosts()
        yield self.dropped()
        yield self.near_threshold()
        yield self.duplicates()
        yield self.captions()
        yield self.by_caption()
        yield self.sizes()
        yield self.alone()
        yield self.newest()
        yield self.others()

    def has(self, name: str) -> bool:
        return name in self.types

    def first(self, *names: str) -> str | None:
        """The first of the columns that the pool has, also under a name with a hash, as SQL."""
        for name in names:
            for column in self.types:
                if column == name or column.startswith(f"{name}@"):
                    return quoted(column) if column != name else name
        return None

    def languages(self) -> list[Question]:
        lang = self.first("lang", "language")
        if lang is None:
            return [Question("Which formats came", _counted("received_format", "samples"))]
        return [Question("How many samples of each language", _counted(lang, "samples"))]

    def hosts(self) -> list[Question]:
        if self.fetched:
            sql = (
                "SELECT host, count(DISTINCT uid) AS urls, count_if(outcome <> 'ok') AS failures,\n"
                "       mode(outcome) FILTER (outcome <> 'ok') AS commonest\n"
                "FROM fetches GROUP BY host ORDER BY failures DESC, urls DESC, host LIMIT 20"
            )
            return [Question("Which hosts fail most, and how", sql)]
        if self.handle.known.has_host:
            return [Question("Which hosts the samples are from", _counted("host", "samples"))]
        return []

    def dropped(self) -> list[Question]:
        if not self.picks:
            return []
        sql = (
            "SELECT pick, coalesce(dropped_by, 'kept') AS dropped_by, reason, count(*) AS n\n"
            "FROM picks GROUP BY ALL ORDER BY pick, n DESC"
        )
        return [Question("Why samples were dropped: by the first filter that did", sql)]

    def near_threshold(self) -> list[Question]:
        """Samples next to the bound of a filter, of a score before other numbers; else ordinary ones."""
        bounds = sorted(self._bounds(), key=lambda b: (self.types.get(b[1]) not in ("FLOAT", "DOUBLE"), len(b[1])))
        for name, value, bound in bounds:
            sql = (
                f"SELECT uid, value, text FROM (SELECT uid, text, {value} AS value FROM samples)\n"
                f"WHERE value IS NOT NULL ORDER BY abs(value - {bound:.12g}), uid LIMIT 20"
            )
            return [Question(f"What stands nearest to a threshold: {name} at {bound:g}", sql)]
        for column, kind in self.types.items():
            if kind in ("FLOAT", "DOUBLE"):
                middle = f"(SELECT median({quoted(column)}) FROM samples)"
                sql = f"SELECT uid, {quoted(column)}, text FROM samples ORDER BY abs({quoted(column)} - {middle}), uid"
                return [Question(f"What an ordinary sample looks like: {column} at its median", f"{sql} LIMIT 20")]
        return []

    def _bounds(self) -> Iterator[tuple[str, str, float]]:
        """(name, SQL, number) of the thresholds of the pool's picks, where the SQL runs over the view `samples`."""
        from curate.ask.report.margins import find_steps

        names = {place: name for name, place in self.handle.known.names.items()}
        for folder in reversed(self.picks):
            for step in find_steps(self.handle.pool, self.handle.pool.about(folder)):
                places = {c: names.get(("" if home == "pixels" else home, f)) for c, (home, f) in step.places.items()}
                if any(seen is None or seen != column for column, seen in places.items()):
                    continue  # a filter's own verdicts, or a column that stands under another name here
                for margin in step.margins:
                    if margin.bounds:
                        yield margin.name, margin.value, float(margin.bounds[0][0])

    def duplicates(self) -> list[Question]:
        group = next((n for n in self.types if n.split("@")[0].endswith("_group")), "sha256")
        sql = (
            f"SELECT {quoted(group)}, count(*) AS copies, min(uid) AS one_of_them, min(text) AS text\nFROM samples "
            f"WHERE {quoted(group)} IS NOT NULL\n"
            "GROUP BY 1 HAVING count(*) > 1 ORDER BY copies DESC, one_of_them LIMIT 20"
        )
        return [Question(f"The largest groups of duplicates, by {group}", sql)]

    def captions(self) -> list[Question]:
        sql = "SELECT length(text) AS characters, uid, text FROM samples\nORDER BY 1 DESC NULLS LAST, uid LIMIT 20"
        return [Question("The longest captions", sql)]

    def by_caption(self) -> list[Question]:
        vector = next((n for n, k in self.types.items() if re.fullmatch(r"FLOAT\[\d+\]", k)), None)
        word = self._word()
        if self.handle.clip is not None and vector is not None:
            said = f"array_cosine_similarity({quoted(vector)}, clip_text({sql_string('a photo of ' + word)}))"
            sql = f"SELECT {said} AS score, uid, text FROM samples\nORDER BY score DESC NULLS LAST LIMIT 20"
            return [Question("Pictures that look like a caption", sql)]
        pattern = sql_string(rf"\b{word}\b")
        sql = f"SELECT uid, text, url FROM samples\nWHERE regexp_matches(text, {pattern}, 'i') LIMIT 20"
        return [Question("Samples with a word in their caption", sql)]

    def _word(self) -> str:
        """A word that many captions have, of plain letters: it goes into a query."""
        rows = self.handle.sql(f"SELECT left(text, 300) FROM samples WHERE text IS NOT NULL LIMIT {SEEN}").fetchall()
        words = Counter(w for (text,) in rows for w in set(re.findall(r"\b[a-z]{4,12}\b", text.lower())))
        return min(words, key=lambda w: (-words[w], w), default="dog")

    def sizes(self) -> list[Question]:
        sql = (
            "SELECT least(original_width, original_height) // 100 * 100 AS shorter_side, count(*) AS n,\n"
            "       round(avg(original_width / original_height), 2) AS aspect,\n"
            "       format_bytes(sum(bytes)::BIGINT) AS stored\n"
            "FROM samples GROUP BY 1 ORDER BY 1"
        )
        return [Question("How big the pictures are, as received", sql)]

    def alone(self) -> list[Question]:
        if not self.picks:
            return []
        sql = "SELECT pick, step, id, asked, dropped_first, dropped_alone, left_after\nFROM funnel ORDER BY pick, step"
        return [Question("What each filter dropped first, and what it would drop alone", sql)]

    def newest(self) -> list[Question]:
        sql = (
            "SELECT shard, row, uid, width, height, text, url FROM samples\n"
            "WHERE shard = (SELECT max(shard) FROM samples) ORDER BY row LIMIT 20"
        )
        return [Question("The newest shard", sql)]

    def others(self) -> list[Question]:
        """For pools that were not fetched, or have no pick yet."""
        found = []
        if (licence := self.first("licence", "license")) is not None:
            found.append(Question("Which licences there are", _counted(licence, "samples")))
        if self.fetched:
            found.append(Question("What became of the URLs", _counted("outcome", "fetches")))
        found += [
            Question("Which texts recur", _counted("text", "samples")),
            Question("How many samples the shards have", _counted("shard", "samples")),
            Question("Which formats are stored", _counted("format", "samples")),
            Question("Which lists the samples are from", _counted("list", "samples")),
            Question("A look at some samples", "SELECT uid, text, url FROM samples USING SAMPLE 20 ROWS"),
        ]
        return found


def _counted(column: str, view: str) -> str:
    return f"SELECT {column}, count(*) AS n FROM {view} GROUP BY 1 ORDER BY n DESC, 1 LIMIT 20"
