"""Stages that ask a model of the text, in a recipe: run over a pool, filtered by, and refused before anything runs."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.errors import UserError
from curate.recipe import load_recipe
from stages.base import Batch
from stages.perplexity import Perplexity
from stages.pos_tags import PosTags
from stages.toxicity import Toxicity
from tests.person import Person
from tests.stages.clip_parts import picture
from tests.stages.text_model_parts import save_causal, save_classifier
from tests.stages.wordnet_parts import write_wordnet

TEXTS = ["two dogs in a box", "a man on the box", "red", None, "a fine cat", "dog", "cats and boxes", "run, dog, run"]
SOURCE = "{{path: {folder}/rows.parquet, url: null}}\ningest: {{resize: none}}"


@pytest.fixture
def person(tmp_path: Path) -> Person:
    images = pa.array([picture(i) for i in range(len(TEXTS))], pa.binary())
    pq.write_table(pa.table({"image": images, "text": TEXTS, "n": range(len(TEXTS))}), tmp_path / "rows.parquet")
    return Person(tmp_path)


def kept(person: Person, filters: str, columns: str) -> set[int]:
    person.run(SOURCE.format(folder=person.folder), filters, f"columns:\n{columns}")
    query = "SELECT n FROM samples WHERE uid IN (SELECT uid FROM picks WHERE dropped_by IS NULL)"
    return {row["n"] for row in person.sql(query)}


def of_all(stage: Perplexity | PosTags | Toxicity, column: str) -> list[float | None]:
    values: list[float | None] = stage.run(Batch.of(pa.table({"text": TEXTS}))).column(column).to_pylist()
    return values


def test_texts_that_name_a_synset(person: Person) -> None:
    folder = person.folder / "dict"
    folder.mkdir()
    offsets = write_wordnet(folder)
    (person.folder / "list.txt").write_text(f"n{offsets['n']['dog'][0]:08d}\nn{offsets['n']['cat'][0]:08d}\n")
    columns = f"  - wordnet_match: {{synsets: {person.folder}/list.txt, wordnet: {folder}}}\n"
    assert kept(person, "  - {id: a_thing, where: wordnet_match, on_missing: drop}\n", columns) == {0, 4, 5, 6}
    assert [r["wordnet_word"] for r in person.sql("SELECT wordnet_word FROM samples WHERE n = 6")] == ["cats"]


def test_nouns_and_determiners(person: Person) -> None:
    pytest.importorskip("HanTa", reason="HanTa is not installed: the default tagger is not tested")
    filters = '  - {id: pos, where: "n_nouns >= 1 AND n_determiners >= 1", on_missing: drop}\n'
    nouns, determiners = (of_all(PosTags(), name) for name in ("n_nouns", "n_determiners"))
    expected = {n for n, both in enumerate(zip(nouns, determiners, strict=True)) if all(both)}
    assert expected == {0, 1, 4}
    assert kept(person, filters, "  - pos_tags: {}\n") == expected


def test_the_least_surprising_and_the_least_toxic(person: Person) -> None:
    causal, heads = save_causal(person.folder / "causal"), save_classifier(person.folder / "heads", ("a", "b"))
    columns = (
        f"  - perplexity: {{weights: {causal}, max_tokens: 100}}\n  - toxicity: {{weights: {heads}, max_tokens: 100}}\n"
    )
    surprise = of_all(Perplexity(weights=causal, max_tokens=100), "perplexity")
    toxic = of_all(Toxicity(weights=heads, max_tokens=100), "toxicity")
    bound = sorted(t for t in toxic if t is not None)[4]
    ranked = sorted((p, n) for n, p in enumerate(surprise) if p is not None)
    assert len(ranked) == 5  # "red" and "dog" are too short
    filters = (
        "  - top_fraction: {column: perplexity, fraction: 0.5, lowest: true, over: pool, on_missing: drop}\n"
        f'  - {{id: safe, where: "toxicity <= {bound:.4f}::FLOAT", on_missing: keep}}\n'
    )
    best = {n for _, n in ranked[: len(TEXTS) // 2]}
    expected = {n for n in best if (toxic[n] or 0) <= bound}
    assert expected
    assert kept(person, filters, columns) == expected


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ("perplexity: {weights: /nowhere}", r"no folder of weights at /nowhere"),
        ("toxicity: {weights: /nowhere}", r"no folder of weights at /nowhere"),
        ("wordnet_match: {synsets: /nowhere.txt}", r"no list of synsets at /nowhere\.txt"),
        ("caption_graph: {model: en_none}", r"no installed package 'en_none'"),
        ("pos_tags: {tagger: en_none}", r"no installed package 'en_none'"),
    ],
)
def test_without_its_files_nothing_is_begun(person: Person, stage: str, said: str) -> None:
    column = {"wordnet_match": "wordnet_match", "caption_graph": "actions > 0", "pos_tags": "n_nouns > 0"}
    name = stage.partition(":")[0]
    filters = f'  - {{id: it, where: "{column.get(name, f"{name} < 1")}", on_missing: drop}}\n'
    recipe = load_recipe(person.recipe(SOURCE.format(folder=person.folder), filters, f"columns:\n  - {stage}\n"))
    assert recipe.resolve(column.get(name, name).partition(" ")[0]).field  # it can be looked at
    with pytest.raises((UserError, ValueError), match=said):
        kept(person, filters, f"  - {stage}\n")
    assert not (Path(person.pool) / "columns").exists()
