"""`curate init`: a recipe from a look at the input, that loads and reads it."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.errors import UserError
from curate.init import write_recipe
from curate.pool.lists import Findings
from curate.recipe import Recipe, load_recipe
from curate.run.sources import open_source

LIST = {
    "URL": ["http://a/1", "http://a/2"],
    "TEXT": ["a dog runs over the grass", "a cat sleeps on the old chair"],
    "similarity": [0.3, 0.4],
}


def init(folder: Path, source: Path | str) -> tuple[Recipe, str]:
    out = folder / "recipe.yaml"
    write_recipe(str(source), out)
    return load_recipe(str(out)), out.read_text(encoding="utf-8")


def test_a_list_of_urls(tmp_path: Path) -> None:
    pq.write_table(pa.table(LIST), tmp_path / "list.parquet")
    recipe, text = init(tmp_path, tmp_path / "list.parquet")
    (spec,) = recipe.sources
    assert (spec.kind, spec.url, spec.text, spec.keep) == ("urls", "URL", "TEXT", "all")
    assert 'keep: all  # carried along: "similarity" (double)' in text
    assert "# contact: https://example.org" in text
    assert [s.id for s in recipe.steps] == ["image_size", "not_blank", "english", "caption_length", "exact"]
    assert recipe.name == "recipe"
    assert recipe.pool == "pools/recipe"


@pytest.mark.parametrize(("suffix", "mark"), [(".csv", ","), (".tsv", "\t"), (".csv.gz", ",")])
def test_csv(tmp_path: Path, suffix: str, mark: str) -> None:
    data = f"\ufeffurl{mark}caption{mark}wide, score\nhttp://a/1{mark}a dog{mark}3\n".replace("wide, score", "score")
    file = tmp_path / f"list{suffix}"
    file.write_bytes(gzip.compress(data.encode()) if suffix.endswith("gz") else data.encode())
    recipe, text = init(tmp_path, file)
    assert (recipe.sources[0].url, recipe.sources[0].text) == ("url", "caption")
    assert 'carried along: "score"' in text


def test_jsonl(tmp_path: Path) -> None:
    (tmp_path / "list.jsonl").write_text(json.dumps({"image_url": "http://a/1", "alt": "a dog", "n": 1}) + "\n")
    recipe, _ = init(tmp_path, tmp_path / "list.jsonl")
    assert (recipe.sources[0].url, recipe.sources[0].text) == ("image_url", "alt")
    (tmp_path / "bad.jsonl").write_text("{\n")
    with pytest.raises(UserError, match=r"bad.jsonl:1: not a JSON object"):
        write_recipe(str(tmp_path / "bad.jsonl"), tmp_path / "bad.yaml")


def test_of_several_texts_one_is_chosen_and_the_others_are_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"url": ["u"], "title": ["t"], "caption": ["c"]}), tmp_path / "list.parquet")
    recipe, text = init(tmp_path, tmp_path / "list.parquet")
    assert recipe.sources[0].text == "caption"
    assert '  text: caption  # may also be "title"\n' in text


def test_without_a_text_no_filter_asks_for_one(tmp_path: Path) -> None:
    pq.write_table(pa.table({"url": ["u"], "words": ["t"]}), tmp_path / "list.parquet")
    recipe, text = init(tmp_path, tmp_path / "list.parquet")
    assert recipe.sources[0].text is None
    assert '  text: null  # may also be "words"\n' in text
    assert [s.id for s in recipe.steps] == ["image_size", "not_blank", "exact"]


def test_without_a_url_it_is_said_what_there_is(tmp_path: Path) -> None:
    pq.write_table(pa.table({"link": ["u"], "text": ["t"]}), tmp_path / "list.parquet")
    with pytest.raises(UserError, match=r'list.parquet: no column looks like the URL; it has "link", "text"\. Write'):
        write_recipe(str(tmp_path / "list.parquet"), tmp_path / "r.yaml")
    assert not (tmp_path / "r.yaml").exists()


def test_parquet_with_bytes(tmp_path: Path) -> None:
    pq.write_table(pa.table({"jpg": [b"x"], "caption": ["a"], "width": [3]}), tmp_path / "photos.parquet")
    recipe, text = init(tmp_path, tmp_path / "photos.parquet")
    assert (recipe.sources[0].kind, recipe.sources[0].image) == ("parquet", "jpg")
    assert "contact" not in text


def test_tars_and_folders(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ("1.jpg", "1.txt"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    recipe, _ = init(tmp_path, tmp_path / "a.tar")
    assert recipe.sources[0].kind == "webdataset"
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").write_bytes(b"x")
    write_recipe(str(tmp_path / "photos"), tmp_path / "other.yaml")
    recipe = load_recipe(str(tmp_path / "other.yaml"))
    assert recipe.sources[0].kind == "folder"


HOSTILE = ["# no comment", "a: b", "line\nbreak", "'quoted'", '"', "no", "123", "{", "é\u2028", "x" * 150]


@pytest.mark.parametrize("column", HOSTILE)
def test_names_of_columns_and_files_stay_names(tmp_path: Path, column: str) -> None:
    folder = tmp_path / column
    folder.mkdir()
    pq.write_table(pa.table({"url": ["u"], "text": ["t"], column: [1]}), folder / "list.parquet")
    write_recipe(str(folder / "list.parquet"), folder / "123.yaml")
    recipe = load_recipe(str(folder / "123.yaml"))
    assert recipe.name == "123"
    assert recipe.sources[0].path == str(folder / "list.parquet")


def test_an_existing_recipe_stays(tmp_path: Path) -> None:
    pq.write_table(pa.table(LIST), tmp_path / "list.parquet")
    (tmp_path / "recipe.yaml").write_text("mine")
    with pytest.raises(UserError, match=r"recipe.yaml: exists already; give another name with --out"):
        init(tmp_path, tmp_path / "list.parquet")
    assert (tmp_path / "recipe.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    "file", ["text/laion_urls_10k.parquet", "images/pairs_flickr8k-*.parquet", "images/pairs_web_products_coco.parquet"]
)
def test_real_inputs_give_recipes_that_read_them(shared_data: Path, tmp_path: Path, file: str) -> None:
    recipe, _ = init(tmp_path, shared_data / file)
    found = next(iter(open_source(recipe.sources[0]).survey(Findings())))
    assert found.table.num_rows > 0
    assert found.table["text"].null_count < found.table.num_rows
