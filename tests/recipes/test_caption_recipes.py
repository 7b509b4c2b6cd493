"""Built-in recipes with captions over a small pool: entries, texts and probabilities of each sample, against oracles.

As in test_recipes.py, the oracles (oracle_mixing.py) share no code with curate; captioners and language models have
random weights, and what they say is read of the pool.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pandas as pd
import pytest

pytest.importorskip("torch", reason="torch is not installed: captioners are not run")
pytest.importorskip("transformers", reason="transformers is not installed: captioners are not run")
pytest.importorskip("open_clip", reason="open_clip is not installed: captioners are not run")

from tests.conftest import SHARED
from tests.recipes import captioned
from tests.recipes import oracle_balance as balance
from tests.recipes import oracle_mixing as mixing
from tests.recipes import oracle_vectors as vectors
from tests.recipes.given import lists, targets, towers
from tests.recipes.given_captions import captioners
from tests.recipes.material import drawn, real
from tests.recipes.planted import planted
from tests.recipes.world import Chosen, World

ROWS, SHARD = 150, 60
L14 = ("columns.clip_embedding.model=null", "columns.clip_embedding.weights={l14}")
DATACOMP = (*L14, "columns.cluster_match.target={targets}", "columns.cluster_match.clusters.k=6")
SHORT = ("captions.make.caption.max_tokens=10",)
WRITES = (
    "captions.make.rewrite.weights={writer}",
    "captions.make.rewrite.max_tokens=24",
    "captions.make.rewrite.least_words=1",
    "captions.make.rewrite.longest=60",
)


ENDS = (
    *WRITES,
    "captions.make.rewrite.sampling=nucleus",
    "captions.make.rewrite.p=1",
    "captions.make.rewrite.max_tokens=160",
)
"""Of 256 bytes one ends a line: short answers would all be cut."""


@dataclass(frozen=True)
class Case:
    """oracle: the entries of each sample. set: what a user sets. knows: names of `given` that the oracle is told.

    everybody: every sample with a text goes on. alike: all with one text of one source, so that no mixing is seen.
    """

    oracle: Callable[..., pd.Series]
    set: tuple[str, ...] = ()
    knows: Mapping[str, Any] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    everybody: bool = False
    alike: bool = False


def kept(choice: Callable[..., pd.Series], *sources: tuple[str, float]) -> Callable[..., pd.Series]:
    """Who is kept by a recipe without captions, with these texts."""

    def oracle(seen: Chosen, **knows: Any) -> pd.Series:
        return mixing.only(choice(seen, **knows).astype(bool), mixing.each(seen, *sources))

    return oracle


def stands_for(number: int, weights: str) -> tuple[str, ...]:
    """A tiny CLIP in place of a published one, among `captions.make`."""
    return (f"captions.make.{number}.model=null", f"captions.make.{number}.weights={{{weights}}}")


def of_each(*sources: tuple[str, float]) -> Callable[..., pd.Series]:
    return partial(_each, sources=sources)


def _each(seen: Chosen, sources: tuple[tuple[str, float], ...]) -> pd.Series:
    return mixing.each(seen, *sources)


CASES = {
    "blip_capfilt": Case(
        mixing.capfilt,
        (
            "captions.make.0.weights={captioner}",
            "captions.make.0.max_tokens=10",
            "captions.make.1.weights={filter}",
        ),
    ),
    "laion_coco": Case(
        mixing.laion_coco,
        (
            "captions.make.caption.weights={blip_large}",
            "captions.make.caption.n=8",
            *SHORT,
            *stands_for(1, "l14"),
            *stands_for(3, "b32"),
        ),
        everybody=True,
        alike=True,
    ),
    "sieve": Case(
        mixing.sieve,
        (
            "columns.caption.weights={captioner}",
            "columns.caption.n=3",
            "columns.caption.max_tokens=10",
            "columns.sieve.weights={minilm}",
            "columns.clip_score.model=null",
            "columns.clip_score.weights={l14}",
        ),
        {"minilm": None},
    ),
    "nguyen_mix": Case(
        mixing.nguyen,
        (
            "captions.make.caption.weights={blip2}",
            *SHORT,
            "columns.clip_score.model=null",
            "columns.clip_score.weights={l14}",
            "captions.make.clip_score.model=null",
            "captions.make.clip_score.weights={l14}",
        ),
        {"fraction": 0.3},
    ),
    "laclip": Case(mixing.laclip, WRITES, everybody=True),
    "veclip": Case(
        of_each(("web", 0.5), ("vecap", 0.5)),
        ("captions.make.caption.weights={llava}", *SHORT, *ENDS),
        everybody=True,
    ),
    "capsfusion": Case(of_each(("fused", 1.0)), ("captions.make.caption.weights={blip_large}", *SHORT, *ENDS)),
    "dreamlip": Case(
        mixing.dreamlip,
        tuple(f"captions.make.{i}.{key}" for i in range(6) for key in ("weights={llava}", "max_tokens=16")),
        everybody=True,
    ),
    "clips": Case(
        mixing.clips,
        ("captions.make.caption.weights={llava}", "captions.make.caption.max_tokens=24"),
        everybody=True,
    ),
    "recap_datacomp_1b": Case(
        kept(vectors.datacomp_1b, ("web", 0.8), ("recap", 0.2)),
        (*DATACOMP, "captions.make.caption.weights={llava}", *SHORT),
        {"targets": None, "k": 6},
        packages=("faiss",),
    ),
    "datacompdr": Case(
        kept(vectors.datacomp_1b, ("web", 0.5), ("coca", 0.5)),
        (
            *DATACOMP,
            "captions.make.caption.model=null",
            "captions.make.caption.weights={coca}",
            *SHORT,
            "captions.make.augmentations.count=2",
            *(setting for i in (2, 3, 4) for setting in stands_for(i, "l14")),
            *(setting for i in (5, 6, 7) for setting in stands_for(i, "b32")),
        ),
        {"targets": None, "k": 6},
        packages=("faiss",),
    ),
    "altogether": Case(
        kept(balance.metaclip_v1_2, ("web", 0.85), ("altogether", 0.15)),
        (
            "columns.metaclip_counts.metadata={metadata}",
            "columns.metaclip_counts.t=20",
            "captions.make.endpoint_caption.urls=[{server}]",
        ),
        {"metadata": None, "t": 20},
        packages=("aiohttp",),
    ),
}


def test_every_recipe_with_captions_has_an_oracle() -> None:
    assert CASES.keys() == captioned.NAMES


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Some rows of the list that the other recipes are run over; a server that answers."""
    material = real(SHARED) if SHARED.is_dir() else drawn()
    folder = tmp_path_factory.mktemp("captions")
    (folder / "given").mkdir()
    given = lists(folder / "given", material) | captioners(folder / "given")
    given |= dict(towers(folder / "given", material.pictures, {"b32": 20, "l14": 30}))
    given |= targets(folder / "given", material.pictures, given["l14"])
    server = pytest.importorskip("tests.openai_server", reason="aiohttp is not installed: no server is asked")
    with server.OpenAiServer() as running:
        yield World(folder, planted(material)[:ROWS], given | {"server": running.url}, SHARD)


@pytest.mark.parametrize("name", CASES)
def test_what_a_recipe_emits_is_what_its_oracle_says(few: World, name: str) -> None:
    case = CASES[name]
    for package in case.packages:
        pytest.importorskip(package, reason=f"{package} is not installed: {name} is not run")
    seen = few.run(name, case.set)
    knows = {key: few.given[key] if value is None else value for key, value in case.knows.items()}
    wanted, found = case.oracle(seen, **knows), mixing.emitted(seen)
    for uid in seen.rows.index:
        same(found[uid], wanted[uid], uid)
    assert (seen.times == wanted.map(len)).all()
    count = int((seen.times > 0).sum())
    assert 0 < count <= len(wanted)
    assert (count >= seen.rows["text"].notna().sum()) == case.everybody
    assert spread(found) != case.alike, "no sample has more than one text, and all have the same source"


def same(found: list[mixing.Entry], wanted: list[mixing.Entry], uid: str) -> None:
    assert [way.keys() for way in found] == [way.keys() for way in wanted], uid
    for a, b in zip(found, wanted, strict=True):
        assert list(a.values()) == pytest.approx([b[key] for key in a], abs=1e-6), uid


def spread(found: pd.Series) -> bool:
    """Whether mixing was put to the test: several texts in an entry, or entries of several kinds, or few that stay."""
    kinds = {tuple(sorted({source for source, _ in way})) for ways in found for way in ways}
    return len(kinds) > 1 or any(len(way) > 1 for ways in found for way in ways) or bool((found.map(len) == 0).any())


def test_teachers_and_augmentations_stand_beside_those_that_are_kept(few: World) -> None:
    """datacompdr: for each survivor as many vectors as augmentations, one a caption, and none for the others."""
    pytest.importorskip("faiss", reason="faiss is not installed: datacompdr is not run")
    seen = few.run("datacompdr", CASES["datacompdr"].set)
    stays = seen.times > 0
    lists = {"augmentations": 2, "openai_augmented": 2, "datacomp_augmented": 2, "openai_coca": 5, "datacomp_coca": 5}
    for name, many in lists.items():
        values = seen.column(name)
        assert all(len(v) == many for v in values[stays]), name
        assert values[~stays].isna().all(), name
    assert all(len(v) == 5 for v in seen.column("coca")[stays])
