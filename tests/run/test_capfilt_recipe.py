"""CapFilt's recipe: what it takes from the web's, what it says itself, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import UserError
from curate.run.capfilt.recipe import CapFilt, Web, pack_source, write_recipe
from filters.sql_guard import check_predicate

CHOSEN = CapFilt("pools/x", "/packs/clean", "/out/captioner.pt", "/out/filter.pt")
WEB = """recipe: web
pool: pools/web
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


@pytest.fixture
def web(tmp_path: Path) -> Path:
    (tmp_path / "web.yaml").write_text(WEB)
    return tmp_path / "web.yaml"


def test_the_webs_recipe_goes_on_with_two_texts_a_picture(web: Path) -> None:
    said = CHOSEN.sections(Web.of(str(web)))
    before = yaml.safe_load(WEB)
    assert said["recipe"] == "web_capfilt"
    assert said["pool"] == "pools/x"  # and not the web's: its lists stay as they are
    assert all(said[name] == before[name] for name in ("shard_size", "ingest", "filters", "pack", "run"))
    assert said["source"][1:] == before["source"]
    caption, web_text, synthetic = said["captions"]["make"]
    assert caption["caption"] | {"sampling": "nucleus", "p": 0.9, "weights": "/out/captioner.pt"} == caption["caption"]
    assert web_text["image_text_match"] == {"name": "itm", "weights": "/out/filter.pt"}
    assert synthetic["image_text_match"] == {"name": "synthetic_itm", "text": "synthetic", "weights": "/out/filter.pt"}
    first, second = said["captions"]["emit"]
    assert (first["texts"], second["texts"]) == ([{"source": "web"}], [{"source": "synthetic"}])
    assert first["where"] == "starts_with(list, 'clean_pairs@') or itm > 0.5"
    assert second["where"] == "not starts_with(list, 'clean_pairs@') and synthetic_itm > 0.5"


def test_clean_pairs_are_the_first_list_each_pair_a_sample(web: Path) -> None:
    first = CHOSEN.sections(Web.of(str(web)))["source"][0]
    assert first == {"path": "/packs/clean/*.tar", "kind": "webdataset", "name": "clean_pairs", "uid": None, "keep": []}


def test_a_pack_is_a_web_too(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    web = Web.of(str(tmp_path))
    assert web.sources == [pack_source(str(tmp_path), "web")]
    assert CHOSEN.sections(web)["pack"] == {}
    assert Web.of("s3://bucket/packs/a").sources[0]["path"] == "s3://bucket/packs/a/*.tar"


def test_with_a_gpu_stages_ask_for_one(web: Path) -> None:
    gpu = CapFilt("p", "c", "a.pt", "b.pt", gpu=True).sections(Web.of(str(web)))["captions"]["make"]
    assert all(next(iter(stage.values()))["device"] == "cuda" for stage in gpu)


@given(st.floats(0, 1), st.floats(0.01, 1), st.integers(0, 2**31))
def test_whatever_is_asked_is_yaml_and_sql(threshold: float, p: float, seed: int) -> None:
    chosen = CapFilt("p", "c", "a.pt", "b.pt", p=p, threshold=threshold, seed=seed)
    said = chosen.sections(Web("web", {"source": {"path": "a.csv"}}))
    for emit in said["captions"]["emit"]:
        check_predicate(emit["where"])
    assert said["captions"]["make"][0]["caption"]["p"] == p
    assert said["seed"] == said["captions"]["make"][0]["caption"]["seed"] == seed
    assert f"> {threshold:g}" in said["captions"]["emit"][0]["where"] or threshold not in (0, 0.5, 1)


def test_it_is_written_once(web: Path, tmp_path: Path) -> None:
    path = tmp_path / "capfilt.yaml"
    write_recipe(path, CHOSEN, Web.of(str(web)))
    text = path.read_text()
    assert yaml.safe_load(text)["recipe"] == "web_capfilt"
    assert f"curate run {path}" in text
    write_recipe(path, CHOSEN, Web.of(str(web)))
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
    web.write_text(WEB.replace("{path: more.csv}", "{path: more.csv, name: clean_pairs}"))
    with pytest.raises(UserError, match="named 'clean_pairs', as the clean pairs are"):
        CHOSEN.sections(Web.of(str(web)))


def test_what_is_neither_is_named() -> None:
    with pytest.raises(UserError, match="no_such_web"):
        Web.of("no_such_web")
