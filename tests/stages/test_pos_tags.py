"""Counts of parts of speech: known captions by HanTa, any pipeline of spaCy's, hostile text, and what is missing."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages import taggers
from stages.base import Batch
from stages.pos_tags import PosTags
from stages.taggers import hanta_words, kind_of_c5
from tests.stages import spacy_parts


@pytest.fixture(scope="module")
def stage() -> PosTags:
    pytest.importorskip("HanTa", reason="HanTa is not installed: the default tagger is not tested")
    stage = PosTags()
    stage.open()
    return stage


def run(stage: PosTags, *texts: str | None) -> list[dict[str, Any]]:
    table = stage.run(Batch.of(pa.table({"text": pa.array(texts, pa.string())})))
    assert table.schema == stage.writes()
    found: list[dict[str, Any]] = table.to_pylist()
    return found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's the dog's bowl, don't!", ["It", "'s", "the", "dog", "'s", "bowl", ",", "do", "n't", "!"]),
        ("it’s", ["it", "'s"]),
        ("well-known 3.5 x 10,000", ["well-known", "3.5", "x", "10,000"]),
        ("see www.foo.com/bar?x=1 (red)", ["see", "www.foo.com/bar?x=1", "(", "red", ")"]),
        ("IMG_4894.JPG", ["IMG_4894.JPG"]),
        ("", []),
    ],
)
def test_words_as_the_tagger_learnt_them(text: str, words: list[str]) -> None:
    assert hanta_words(text) == words


def test_tags_of_the_british_national_corpus() -> None:
    kinds = {
        "NOUN": ["NN0", "NN1", "NN2"],
        "PROPN": ["NP0"],
        "DET": ["AT0", "DT0", "DTQ"],
        "ADP": ["PRP", "PRF"],
        "VERB": ["VVG", "VBZ", "VM0"],
        "ADJ": ["AJ0", "AJS"],
        "X": ["DPS", "TO0", "CJS", "CRD", "UNC"],
        None: ["PUN", "PUQ"],
    }
    assert {kind: [kind_of_c5(tag) for tag in tags] for kind, tags in kinds.items()} == {
        kind: [kind] * len(tags) for kind, tags in kinds.items()
    }


def test_a_caption(stage: PosTags) -> None:
    one, name, none, empty = run(
        stage, "A black cat is chasing two birds on the beach.", "Beautiful sunset over Lake Tahoe", None, "!?"
    )
    assert one == {
        "n_tagged": 10,
        "n_nouns": 3,
        "n_proper": 0,
        "n_determiners": 2,
        "n_prepositions": 1,
        "n_verbs": 2,
        "n_adjectives": 1,
        "noun_ratio": pytest.approx(0.3),
        "determiner_ratio": pytest.approx(0.2),
        "proper_ratio": pytest.approx(0),
    }
    assert (name["n_nouns"], name["n_proper"], name["n_prepositions"], name["noun_ratio"]) == (
        3,
        2,
        1,
        pytest.approx(0.6),
    )
    assert set(none.values()) == {None}
    assert (empty["n_tagged"], empty["n_nouns"], empty["noun_ratio"]) == (0, 0, None)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=50), max_size=4))
def test_any_text_has_counts_that_depend_on_it_alone(stage: PosTags, texts: list[str]) -> None:
    rows = run(stage, *texts)
    for text, row in zip(texts, rows, strict=True):
        assert row == run(stage, text)[0]
        kinds = sum(row[name] for name in ("n_nouns", "n_determiners", "n_prepositions", "n_verbs", "n_adjectives"))
        assert 0 <= row["n_proper"] <= row["n_nouns"]
        assert kinds <= row["n_tagged"] <= len(text)
        assert (row["noun_ratio"] is None) == (row["n_tagged"] == 0)


def test_a_megabyte_and_a_long_word_take_no_longer_than_their_share(stage: PosTags) -> None:
    words, word = run(stage, "the dog " * 125_000, "x" * 1_000_000)
    assert words["n_tagged"] == 1000  # of 4000 characters
    assert word["n_tagged"] == 1
    assert run(PosTags(max_chars=7), "the dog runs")[0]["n_tagged"] == 2


def test_rules_on_real_captions(stage: PosTags, shared_data: Path) -> None:
    """CC3M's captions went through the rule; of alt-texts of the web few pass it."""
    cc3m = pq.read_table(shared_data / "text" / "cc3m_validation.parquet").column("caption").to_pylist()[:1000]
    alt = pq.read_table(shared_data / "text" / "laion_urls_10k.parquet").column("text").to_pylist()[:1000]
    kept = [
        sum(min(r["n_nouns"] or 0, r["n_determiners"] or 0, r["n_prepositions"] or 0) >= 1 for r in run(stage, *texts))
        / 1000
        for texts in (cc3m, alt)
    ]
    assert kept[1] < 0.25 < 0.6 < kept[0]


def test_a_pipeline_of_spacys(tmp_path: Path) -> None:
    folder = spacy_parts.save_pipeline(tmp_path / "tiny")
    stage = PosTags(tagger=folder)
    nlp = spacy_parts.spacy().load(folder)
    texts = ["a dog runs on the beach with a big red ball", "", "two dogs"]
    for text, row in zip(texts, run(stage, *texts), strict=True):
        tags = [token.pos_ for token in nlp(text) if token.pos_ != "PUNCT"]
        assert row["n_tagged"] == len(tags)
        assert row["n_nouns"] == tags.count("NOUN")
        assert row["n_verbs"] == tags.count("VERB") + tags.count("AUX")
        assert row["n_determiners"] == tags.count("DET")
    assert run(stage, None)[0]["n_nouns"] is None
    assert pickle.loads(pickle.dumps(stage)) == stage
    assert str(tmp_path) not in json.dumps(stage.identity())
    assert stage.identity() != PosTags().identity()


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"pos_tags: no folder and no installed package 'en_none'"):
        PosTags(tagger="en_none").files()
    blank = PosTags(tagger=spacy_parts.save_pipeline(tmp_path / "blank", tags=False))
    with pytest.raises(
        ValueError, match=r"pos_tags: the pipeline .* gives words no part of speech: it has parser|no part"
    ):
        blank.open()
    monkeypatch.setattr(taggers, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pos_tags: the tagger HanTa is not installed: pip install 'curate\[text\]'"):
        PosTags().files()
