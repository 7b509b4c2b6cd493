"""CapFilt's recipe: what it takes from the web's, what it says itself, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from run.caption_parts import captioned

from curate.errors import UserError
from curate.run.capfilt.passing import passing
from curate.run.capfilt.recipe import CapFilt, Web, pack_source, write_recipe
from filters.sql_guard import check_predicate

CHOSEN = CapFilt("pools/x", "/packs/clean", "/out/captioner.pt", "/out/filter.pt", "0123456789abcdef")
CLEAN = "starts_with(list, 'clean_pairs_01234567@')"
WEB = """recipe: web
pool: pools/web
seed: 7
shard_size: 50
source:
  - {path: web/*.parquet, image: image, url: null}
  - {path: more.csv}
ingest: {resize: long, side: 128}
filters:
  - image_size: {min_side: 32}
pack: {samples: 100}
run: {executor: inline}
"""


WEB_FILTER = {"image_size": {"min_side": 32}}


@pytest.fixture
def web(tmp_path: Path) -> Path:
    (tmp_path / "web.yaml").write_text(WEB)
    return tmp_path / "web.yaml"


def test_the_webs_recipe_goes_on_with_two_texts_a_picture(web: Path) -> None:
    said = CHOSEN.sections(Web.of(str(web)))
    before = yaml.safe_load(WEB)
    assert said["recipe"] == "web_capfilt"
    assert said["pool"] == "pools/x"  # and not the web's: its lists stay as they are
    assert all(said[name] == before[name] for name in ("seed", "shard_size", "ingest", "pack", "run"))
    assert said["source"][1:] == before["source"]
    caption, match = said["captions"]["make"]
    assert caption["caption"] | {"sampling": "nucleus", "p": 0.9, "weights": "/out/captioner.pt"} == caption["caption"]
    # One stage, so that each picture is looked at once.
    assert match["image_text_match"] == {"name": "itm", "also": ["synthetic"], "weights": "/out/filter.pt"}
    first, second = said["captions"]["emit"]
    assert (first["texts"], second["texts"]) == ([{"source": "web"}], [{"source": "synthetic"}])
    assert first["where"] == f"{CLEAN} or itm > 0.5"
    assert second["where"] == f"not {CLEAN} and synthetic_itm > 0.5"


def test_clean_pairs_are_the_first_list_each_pair_a_sample(web: Path) -> None:
    first = CHOSEN.sections(Web.of(str(web)))["source"][0]
    wanted = {"path": "/packs/clean/*.tar", "kind": "webdataset", "name": "clean_pairs_01234567", "uid": None}
    assert first == wanted | {"keep": []}
    other = replace(CHOSEN, digest="fedcba9876543210").sections(Web.of(str(web)))
    assert other["source"][0]["name"] == "clean_pairs_fedcba98"  # in one pool each has its own


FILTERS = """filters:
  - image_size: {min_side: 32}
  - id: near
    where: "similarity > 0.3"
    on_missing: drop
  - {where: {sql: "width > 5 or height > 5"}}
  - not: {over: pool, members: [{image_size: {min_side: 64}}]}
"""


def test_filters_are_not_asked_about_clean_pairs(web: Path) -> None:
    web.write_text(WEB.replace("filters:\n  - image_size: {min_side: 32}\n", FILTERS))
    said = CHOSEN.sections(Web.of(str(web)))

    def passes(member: dict[str, Any]) -> dict[str, Any]:
        return {"unless": {"over": "survivors", "where": CLEAN, "members": [member]}}

    others, size, near, wide, small = said["filters"]
    assert others == {"id": "other_clean_pairs", "where": f"{CLEAN} or not starts_with(list, 'clean_pairs_')"}
    assert size == {"id": "image_size", **passes(WEB_FILTER)}
    assert near == {"id": "near", "where": f"{CLEAN} or (similarity > 0.3)", "on_missing": "drop"}
    assert wide == {"id": "where", "where": {"sql": f"{CLEAN} or (width > 5 or height > 5)"}}
    member = {"not": {"over": "pool", "members": [{"image_size": {"min_side": 64}}]}}
    assert small == {"id": "not", **passes(member)}


def test_a_clean_pair_without_a_value_stays_and_a_noisy_one_is_still_named(tmp_path: Path) -> None:
    """A caption without a word has no language, and nothing says what then."""
    texts = ["  ", "two dogs run over the grass", "zwei Hunde laufen im Gras", "a cat sits on the mat"]
    clean, noisy = f"{CLEAN[19:-2]}1", "web@1"
    filters = {"filters": passing([{"language": {"keep": ["en"]}}, {"where": "lang <> 'fr'"}], CLEAN)}
    case = captioned(tmp_path, texts, list=[clean, clean, noisy, noisy])
    rows = case.picked(case.run(yaml.safe_dump(filters)))
    assert [r["dropped_by"] for r in rows] == [None, None, "language", None]
    (tmp_path / "noisy").mkdir()
    other = captioned(tmp_path / "noisy", texts, list=[noisy, clean, noisy, noisy])
    with pytest.raises(UserError, match=r"language: sample [0-9a-f]{32} has no value for lang"):
        other.run(yaml.safe_dump(filters))


WHOLE = {
    "best": "filters: [{id: best, top_fraction: {column: width, fraction: 0.5, over: pool}}]",
    "best-2": "filters: [{id: best-2, top_fraction: {column: width, fraction: 0.5, over: survivors}}]",
    "some": "filters: [{id: some, not: {over: pool, members: [{random_subset: {fraction: 0.5}}]}}]",
    "above": "columns: [{threshold: {column: width, fraction: 0.5, over: pool, name: s}}]\n"
    'filters: [{id: above, where: "width >= s"}]',
}


@pytest.mark.parametrize("id", WHOLE)
def test_a_filter_over_many_samples_would_see_clean_pairs(web: Path, id: str) -> None:
    web.write_text(f"recipe: web\npool: pools/web\nsource: {{path: a.csv}}\n{WHOLE[id]}\n")
    with pytest.raises(UserError, match=f"filter {id} holds samples .* give the folder of its pack as WEB"):
        Web.of(str(web))


def test_a_pack_is_a_web_too(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    web = Web.of(str(tmp_path))
    assert web.sources == [pack_source(str(tmp_path), "web")]
    assert CHOSEN.sections(web)["pack"] == {}
    assert Web.of("s3://bucket/packs/a").sources[0]["path"] == "s3://bucket/packs/a/*.tar"


def test_with_a_gpu_stages_ask_for_one(web: Path) -> None:
    gpu = CapFilt("p", "c", "a.pt", "b.pt", "0" * 64, gpu=True).sections(Web.of(str(web)))["captions"]["make"]
    assert all(next(iter(stage.values()))["device"] == "cuda" for stage in gpu)


@given(st.floats(0, 1), st.floats(0.01, 1), st.integers(0, 2**31))
def test_whatever_is_asked_is_yaml_and_sql(threshold: float, p: float, seed: int) -> None:
    chosen = CapFilt("p", "c", "a.pt", "b.pt", "0" * 64, p=p, threshold=threshold, seed=seed)
    said = chosen.sections(Web("web", {"source": {"path": "a.csv"}}))
    for emit in said["captions"]["emit"]:
        check_predicate(emit["where"])
    assert said["captions"]["make"][0]["caption"]["p"] == p
    assert (said["seed"], said["captions"]["make"][0]["caption"]["seed"]) == (0, seed)
    assert f"> {threshold:g}" in said["captions"]["emit"][0]["where"] or threshold not in (0, 0.5, 1)


def test_it_is_written_once(web: Path, tmp_path: Path) -> None:
    path = tmp_path / "capfilt.yaml"
    write_recipe(path, CHOSEN, Web.of(str(web)))
    text = path.read_text()
    assert yaml.safe_load(text)["recipe"] == "web_capfilt"
    assert f"curate run {path}" in text
    write_recipe(path, CHOSEN, Web.of(str(web)))
    assert path.read_text() == text
    write_recipe(path, replace(CHOSEN, gpu=True), Web.of(str(web)))  # a machine with a GPU goes on with it
    assert path.read_text() == text
    path.write_text(text + "# mine\n")
    with pytest.raises(UserError, match=f"run it as it is with `curate run {path}`, or remove it"):
        write_recipe(path, CHOSEN, Web.of(str(web)))
    assert path.read_text().endswith("# mine\n")


def test_texts_that_are_chosen_already_are_not_overwritten(web: Path) -> None:
    web.write_text(WEB + "captions: {emit: [{copies: 2}]}\n")
    with pytest.raises(UserError, match="has `captions:` of its own"):
        Web.of(str(web))


def test_a_web_list_by_the_clean_ones_name_is_refused(web: Path) -> None:
    web.write_text(WEB.replace("{path: more.csv}", "{path: more.csv, name: clean_pairs_mine}"))
    with pytest.raises(UserError, match="named 'clean_pairs_mine', as clean pairs are"):
        CHOSEN.sections(Web.of(str(web)))


def test_what_is_neither_is_named() -> None:
    with pytest.raises(UserError, match="no_such_web"):
        Web.of("no_such_web")
