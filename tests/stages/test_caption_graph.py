"""Objects, relations and actions of captions: on parses that spaCy's English pipeline made, and through a pipeline."""

from __future__ import annotations

import json
import pickle
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages import spacy_model
from stages.base import Batch
from stages.caption_graph import CaptionGraph
from stages.caption_relations import relations
from tests.stages import spacy_parts as parts

pytestmark = pytest.mark.usefixtures("_spacy")


@pytest.fixture(scope="module")
def _spacy() -> None:
    parts.spacy()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return parts.save_pipeline(tmp_path_factory.mktemp("pipeline") / "tiny", steps=20)


@pytest.fixture(scope="module")
def stage(folder: str) -> CaptionGraph:
    stage = CaptionGraph(model=folder)
    stage.open()
    return stage


def run(stage: CaptionGraph, *texts: str | None) -> list[tuple[int | None, int | None]]:
    table = stage.run(Batch.of(pa.table({"text": pa.array(texts, pa.string())})))
    assert table.schema == stage.writes()
    return [(row["complexity"], row["actions"]) for row in table.to_pylist()]


@pytest.mark.parametrize(
    ("rows", "of", "actions"),
    [
        (parts.CHASING, {"cat": 2, "bird": 3}, 1),  # DiHT's own example: the bird has three
        (parts.BENCH, {"man": 3, "woman": 3, "bench": 1, "house": 1}, 1),  # sitting, on, in front of
        (parts.PIANIST, {"woman": 1, "pianist": 1}, 0),
        (parts.CARS, {"cars": 4}, 1),  # two, red, blue, parked
        (parts.PLAYED, {"piano": 1, "woman": 1}, 1),
        (parts.SHOES, {}, 0),
        (parts.BEACH, {"dog": 1, "beach": 1}, 0),
        (parts.BLACK, {"cat": 1}, 0),
        (parts.RIDING, {"man": 2, "horse": 1, "rope": 1}, 2),
        (parts.SNOW, {"dog": 2, "snow": 1}, 1),
        (parts.TABLE, {"cup": 2, "tea": 1, "table": 1}, 0),
        (parts.NEXT, {"piano": 1, "woman": 1}, 0),
        (parts.HE, {}, 0),  # a pronoun is no object
    ],
)
def test_relations_of_a_parse(rows: str, of: dict[str, int], actions: int) -> None:
    doc = parts.parsed(rows)
    graph = relations(doc)
    assert {doc[place].text: count for place, count in graph.of.items()} == of
    assert graph.actions == actions
    assert graph.complexity == max(of.values(), default=0)


CHAIN = 1_000


@pytest.mark.parametrize(
    ("rows", "complexity", "actions"),
    [
        # red, and a thousand colours after it: each an attribute of the car
        ("car/NOUN/ROOT/0 c1/ADJ/amod/0 " + " ".join(f"c{i}/ADJ/conj/{i - 1}" for i in range(2, CHAIN)), 100, 0),
        # a dog and a thousand animals run: all take part
        ("run/VERB/ROOT/0 n1/NOUN/nsubj/0 " + " ".join(f"n{i}/NOUN/conj/{i - 1}" for i in range(2, CHAIN)), 1, 1),
        # a dog runs and jumps and ...: the dog does the first hundred
        ("dog/NOUN/nsubj/1 v1/VERB/ROOT/1 " + " ".join(f"v{i}/VERB/conj/{i - 1}" for i in range(2, CHAIN)), 100, 100),
        # sitting behind a thousand nouns, out of out of ... the house
        (
            "n0/NOUN/ROOT/0 "
            + " ".join(f"n{i}/NOUN/conj/{i - 1}" for i in range(1, CHAIN))
            + f" sitting/VERB/acl/{CHAIN - 1} of/ADP/prep/{CHAIN} "
            + " ".join(f"of/ADP/prep/{i}" for i in range(CHAIN + 1, 2 * CHAIN))
            + f" house/NOUN/pobj/{2 * CHAIN}",
            1,
            1,
        ),
    ],
)
def test_a_chain_of_a_thousand_words(rows: str, complexity: int, actions: int) -> None:
    began = time.process_time()
    graph = relations(parts.parsed(rows))
    assert (graph.complexity, graph.actions) == (complexity, actions)
    assert time.process_time() - began < 10


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]), max_size=60)), min_size=1, max_size=5
    )
)
def test_any_text_has_a_graph(stage: CaptionGraph, texts: list[str | None]) -> None:
    """Of hostile text the parser makes trees of any shape."""
    for text, (complexity, actions) in zip(texts, run(stage, *texts), strict=True):
        assert (complexity is None) == (actions is None) == (text is None)
        if complexity is not None and actions is not None:
            assert (complexity > 0) >= (actions > 0)  # an action is a relation of somebody
            assert complexity <= 3 * len(text or "")


def test_is_the_graph_of_the_pipelines_parse(stage: CaptionGraph, folder: str) -> None:
    nlp = parts.spacy().load(folder)
    texts = ["a dog runs on the beach", "A man and a woman", "", "A black cat is chasing a small brown bird ."]
    expected = [(graph.complexity, graph.actions) for graph in (relations(nlp(text)) for text in texts)]
    assert run(stage, *texts, None) == [*expected, (None, None)]
    assert len(set(expected)) > 1
    assert expected[0][1] == 1
    short = CaptionGraph(model=folder, max_chars=10)
    assert run(short, texts[0]) == run(stage, texts[0][:10])


def test_travels_and_is_one_stage_wherever_it_lies(stage: CaptionGraph, folder: str, tmp_path: Path) -> None:
    again = pickle.loads(pickle.dumps(stage))
    assert run(again, "a dog runs", "two dogs") == run(stage, "a dog runs", "two dogs")
    parts.spacy().load(folder).to_disk(tmp_path / "copy")
    other = CaptionGraph(model=str(tmp_path / "copy"))
    assert other.identity() == stage.identity()
    assert str(tmp_path) not in json.dumps(other.identity())
    assert "parser/model" in stage.identity()["parameters"]["model"]


def test_what_is_missing_is_said(folder: str, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"caption_graph: no folder and no installed package 'en_none': `python -m spacy down"
    ):
        CaptionGraph(model="en_none").files()
    with pytest.raises(ValueError, match=r"caption_graph: no spaCy pipeline at .*nothing: it has no config\.cfg"):
        CaptionGraph(model=str(tmp_path / "nothing")).files()
    without = CaptionGraph(model=parts.save_pipeline(tmp_path / "tagger", parses=False))
    with pytest.raises(
        ValueError, match=r"caption_graph: .* has no tagger, or no parser .*acl, amod.*; it has morphologizer"
    ):
        without.open()
    other = CaptionGraph(model=parts.save_pipeline(tmp_path / "other", renamed="ud-"))
    with pytest.raises(ValueError, match="no parser with the labels of spaCy's English ones"):
        other.open()
    (tmp_path / "other" / "config.cfg").write_text("[nlp]\nlang = 3\n")
    with pytest.raises(ValueError, match=r"caption_graph: spaCy cannot load .*other: \w+"):
        other.open()


def test_real_captions_by_the_real_pipeline(shared_data: Path) -> None:
    try:
        spacy_model.files("en_core_web_sm")
    except ValueError as e:
        pytest.skip(f"the real pipeline is not tested: {e}")
    stage = CaptionGraph(model="en_core_web_sm")
    assert run(stage, "A black cat is chasing a small brown bird.", "cat") == [(3, 1), (0, 0)]
    alt = pq.read_table(shared_data / "text" / "laion_urls_10k.parquet").column("text").to_pylist()[:500]
    photos = (
        pq.read_table(shared_data / "text" / "flickr8k_human_judgments.parquet").column("caption").to_pylist()[:500]
    )
    kept = [sum((c or 0) >= 1 and (a or 0) >= 1 for c, a in run(stage, *texts)) / 500 for texts in (alt, photos)]
    assert kept[0] < 0.4 < 0.7 < kept[1]
