"""Mixes of texts as packs have them, and as the judge's loader draws them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from run.caption_parts import Captioned, captioned
from run.packing import build, read_back, samples_of
from scipy.stats import chisquare

from curate.run.pack.members import chosen_texts
from curate.run.pack.rank import copies_of
from curate.run.pick import Emit, build_emit
from tests.training_smoke.pack_parts import codes, words
from training_smoke.loader import Loader
from training_smoke.order import pick_texts
from training_smoke.packs import Pack

SAYS = "run.caption_parts:Says"
RECIPES = Path(__file__).resolve().parents[2] / "recipes"
DRAWS = 2_000  # of each sample
MIXES: dict[str, tuple[str, dict[str, float]]] = {
    "raw only": ("[{source: web}]", {"web": 1.0}),
    "synthetic only": ("[{source: one}]", {"one": 1.0}),
    "laclip: of five alike": ("[{source: web}, {source: four, each: true}]", {"web": 0.2, "four": 0.8}),
    "veclip: half and half": ("[{source: web, p: 0.5}, {source: one, p: 0.5}]", {"web": 0.5, "one": 0.5}),
    "recap": ("[{source: web, p: 0.8}, {source: one, p: 0.2}]", {"web": 0.8, "one": 0.2}),
    "altogether": ("[{source: web, p: 0.85}, {source: one, p: 0.15}]", {"web": 0.85, "one": 0.15}),
}
MAKE = f"  make: [{{{SAYS}: {{name: one}}}}, {{{SAYS}: {{name: four, n: 4}}}}]\n"


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Captioned:
    return captioned(tmp_path_factory.mktemp("mixes"), [f"text {i:02d}" for i in range(40)])


def mixed(case: Captioned, texts: str, more: str = "") -> Path:
    """The folder of a pack with these texts of each sample."""
    yaml = f"captions:\n{MAKE}  emit: [{{texts: {texts}}}]\npack: {{samples: 16}}\n{more}"
    return Path(case.url) / case.pack(yaml)["folder"]


def members(folder: Path) -> Iterator[dict[str, Any]]:
    for tar in read_back({p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}):
        yield from tar


@pytest.mark.parametrize(("texts", "shares"), MIXES.values(), ids=MIXES.keys())
def test_a_pack_tells_all_texts_with_source_and_probability_and_plain_readers_one(
    case: Captioned, texts: str, shares: dict[str, float]
) -> None:
    for member in members(mixed(case, texts)):
        said = member["json"]["texts"]
        found: Counter[str] = Counter()
        for text in said:
            found[text["source"]] += text["p"]
        assert dict(found) == pytest.approx(shares, abs=1e-5)
        assert len(said) == len({(t["source"], t["index"]) for t in said}) == sum({"four": 4}.get(s, 1) for s in shares)
        assert member["txt"].decode() == max(said, key=lambda t: t["p"])["text"]
        assert all(
            t["text"] == f"{t['index']} of {web}" for t in said if t["source"] != "web" for web in [_web(member)]
        )


def _web(member: dict[str, Any]) -> str:
    """The sample's own text, which its captions repeat."""
    return str(member["txt"].decode().rpartition(" of ")[2])


@pytest.mark.parametrize(("texts", "shares"), MIXES.values(), ids=MIXES.keys())
def test_the_loader_draws_texts_by_these_probabilities(case: Captioned, texts: str, shares: dict[str, float]) -> None:
    """Chi-square over 100,000 draws of what the pack says of its samples."""
    pack = Pack.open(mixed(case, texts))
    turns = np.arange(100_000)
    said = [pack.texts(i) for i in range(len(pack))]
    drawn = pick_texts(7, turns, [said[t % len(said)] for t in turns])
    kinds = Counter(d.partition(" of ")[0] if " of " in d else "web" for d in drawn)
    numbered = {"web": shares.get("web", 0.0)} | {str(i): shares.get("four", 0.0) / 4 for i in range(4)}
    numbered["0"] += shares.get("one", 0.0)
    expected = {k: p * len(turns) for k, p in numbered.items() if p}
    assert set(kinds) == set(expected)
    if len(expected) > 1:
        assert chisquare([kinds[k] for k in expected], list(expected.values())).pvalue > 1e-3


def test_batches_of_the_loader_follow_the_mix(case: Captioned) -> None:
    """The same through `Loader`, whose draws are keyed by seed and turn: as many steps as there are 8,000 texts."""
    pack = Pack.open(mixed(case, MIXES["recap"][0]))
    loader = Loader(packs=pack, batch=40, size=16, seed=3, steps=200, tokenize=codes, workers=1)
    synthetic = sum(" of " in w for batch in loader for w in words(batch.tokens))
    assert chisquare([synthetic, 8000 - synthetic], [1600, 6400]).pvalue > 1e-3


# ---------------------------------------------------------------- lists of another length each sample


def pieces(number: int) -> list[str]:
    """Of a sample's text; the captioner repeats them behind "0 of "."""
    return [f"s{number:02d}w{i}" for i in range(1 + number % 4)]


@pytest.mark.parametrize(("recipe", "own", "stop"), [("dreamlip", 1 / 9, ""), ("clips", 1 / 2, ".")])
def test_sentences_share_what_their_source_has(tmp_path: Path, recipe: str, own: float, stop: str) -> None:
    """Chi-square, sample by sample, of draws from packs of these recipes; who has no sentence has the web's text.

    stop: what the recipe leaves of the full stop between two sentences.
    """
    told = yaml.safe_load((RECIPES / f"{recipe}.yaml").read_text())["captions"]
    (stage,) = (made for made in told["make"] if "sentences" in made)
    described = stage["sentences"]["text"]
    made = [{SAYS: {"name": name}} for name in ([described] if isinstance(described, str) else described)] + [stage]
    web = [". ".join(pieces(i)) + " silent" * (i % 8 == 7) for i in range(24)]
    case = captioned(tmp_path, web)
    recipe_text = yaml.safe_dump({"captions": {"make": made, "emit": told["emit"]}, "pack": {"samples": 16}})
    pack = Pack.open(Path(case.url) / case.pack(recipe_text)["folder"])
    expected: dict[str, float] = {}
    for i, text in enumerate(web):
        *before, last = [f"0 of {pieces(i)[0]}", *pieces(i)[1:]]
        said = [] if "silent" in text else [*(f"{piece}{stop}" for piece in before), last]
        expected[text] = DRAWS * (own if said else 1.0)
        expected |= {piece: DRAWS * (1 - own) / len(said) for piece in said}
    turns = np.arange(DRAWS * len(web))
    drawn = Counter(pick_texts(7, turns, [pack.texts(t % len(pack)) for t in turns]))
    assert set(drawn) == set(expected)
    found = chisquare([drawn[text] for text in expected], list(expected.values()), ddof=len(web) - 1)
    assert found.pvalue > 1e-3


# ---------------------------------------------------------------- the union of CapFilt

CLEAN, WEB = "clean@0123456789ab", "web@ba9876543210"  # as a pool names its lists
CAPFILT = """columns:
  - run.caption_parts:Length: {name: itm}
captions:
  make:
    - run.caption_parts:Says
    - run.caption_parts:Length: {text: said, name: said_itm}
  emit:
    - where: "starts_with(list, 'clean@') OR itm %(holds)s"
    - texts: [{source: said}]
      where: "NOT starts_with(list, 'clean@') AND said_itm %(holds)s"
pack: {samples: 16}
"""


@pytest.mark.parametrize(
    ("holds", "lists", "sources"),
    [
        ("> 0", {CLEAN: 6, WEB: 28}, {"web": 20, "said": 14}),
        ("< 0", {CLEAN: 6}, {"web": 6}),
    ],
    ids=["always yes: two pairs a picture", "never: the clean pairs alone"],
)
def test_capfilts_union_beside_a_clean_list(
    tmp_path: Path, holds: str, lists: dict[str, int], sources: dict[str, int]
) -> None:
    case = captioned(tmp_path, [f"text {i:02d}" for i in range(20)], list=[CLEAN] * 6 + [WEB] * 14)
    written = list(members(Path(case.url) / case.pack(CAPFILT % {"holds": holds})["folder"]))
    assert Counter(m["json"]["list"] for m in written) == lists
    assert Counter(t["source"] for m in written for t in m["json"]["texts"]) == sources
    assert {t["p"] for m in written for t in m["json"]["texts"]} == {1.0}
    assert len({m["key"] for m in written}) == len(written)


def test_texts_of_the_input_may_be_a_plain_list(tmp_path: Path) -> None:
    """As COCO has them, five a picture; a null among them is no text."""
    given = [["a", None, "c"], [], None]
    pool = build(tmp_path, [samples_of(3)])
    emits = (Emit(1, (("captions", 1.0),)),)
    captions = pa.array(given, pa.list_(pa.string()))
    emit, times, _ = build_emit(emits, {"captions": captions}, np.ones(3, bool), np.ones(3, np.int64))
    assert times.to_pylist() == [1, 0, 0]
    copies = copies_of(emit, np.zeros(3, bool), "copies")
    found = chosen_texts(emit, {"captions": captions}, copies, pool.facts(0, ["uid"])[0].column("uid").combine_chunks())
    assert [[(t["index"], t["text"], t["p"]) for t in row] for row in found.to_pylist()] == [
        [(0, "a", 0.5), (2, "c", 0.5)]
    ]
