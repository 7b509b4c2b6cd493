"""A list and a threshold for each language."""

from __future__ import annotations

import json

import numpy as np
import pytest

from filters.metaclip2 import Metaclip2
from stages.metaclip_balance import threshold_of
from stages.metaclip_phases import Balancing
from tests.filters.metaclip_parts import ENTRIES, Rows, Runner, captions, pool_of, verdicts


@pytest.fixture(scope="module")
def languages(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("lists")
    (folder / "en.json").write_text(json.dumps(ENTRIES))
    (folder / "ja.json").write_text(json.dumps({"犬": "w", "猫": "u", "写真": "t"}))
    (folder / "other.json").write_text(json.dumps(["Foto"]))
    return str(folder)


def worldwide(n: int) -> Rows:
    rng = np.random.default_rng(1)
    rows = captions(n, 5)
    for row in rows:
        row["lang"] = "en"
    for _ in range(n // 2):
        animal = rng.choice(["犬", "猫", "りす"], p=[0.8, 0.15, 0.05])
        rows.append({"uid": rng.bytes(16), "text": f"これは{animal}の写真です", "lang": "ja"})
    rows += [{"uid": rng.bytes(16), "text": "ein Foto", "lang": lang} for lang in ("de", None, "fr")]
    return rows


def test_each_language_has_its_list_and_its_t(languages: str) -> None:
    rows = worldwide(200)
    chosen = Metaclip2(metadata=languages, language="lang", t=30, over="pool")
    runner = Runner(pool_of(rows, 3))
    runner.run(chosen)
    told = runner.stats(chosen, "probabilities")["all"]
    english = [
        sum(r["lang"] == "en" and f" {e} " in f" {(r['text'] or '').replace(',', ' ,')} " for r in rows)
        for e in ENTRIES
    ]
    share = sum(c for c in english if c < 30) / sum(english)
    assert told["en"]["t"] == 30
    assert told["en"]["tail_share"] == share
    japanese = np.array([sum(r["lang"] == "ja" and w in r["text"] for r in rows) for w in ("犬", "猫", "写真")])
    assert told["ja"]["matches"] == japanese.sum()
    assert told["ja"]["t"] == threshold_of(japanese, share)
    assert told["other"]["matches"] == 3
    found = verdicts(rows, chosen)
    assert all(found[r["uid"]][2] == 1 for r in rows if r["text"] == "ein Foto")


def test_languages_are_cut_and_shuffled_as_one_pleases(languages: str) -> None:
    rows = worldwide(100)
    for draw in ("text", "entry"):
        chosen = Metaclip2(metadata=languages, language="lang", t=10, over="pool", draw=draw)
        assert verdicts(rows, chosen, 7, 1) == verdicts(rows, chosen)


def test_language_column_enters_what_is_read(languages: str) -> None:
    chosen = Metaclip2(metadata=languages, t=5, over="pool")
    assert [c.field for c in chosen.reads() if not isinstance(c, str)] == ["match_ids", "lang"]
    assert isinstance(chosen.balancing(), Balancing)
