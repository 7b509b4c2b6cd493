"""What lies beside a pack's files: the card, Croissant, and what is known of each sample."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from curate.run.pack.card import card, code, human
from curate.run.pack.croissant import croissant
from curate.run.pack.origin import INDEX, MOST, Origin, licence_column, summed
from curate.text import visible
from tests.run.packing import WEB, Packer, build, samples_of
from tests.tiny import sample


@pytest.fixture
def packer(tmp_path: Path) -> Packer:
    twice = ({**WEB[0], "copies": 2},)
    more = [sample(40, emit=twice, text="twice | `there`"), sample(41, emit=WEB, text="a\nb\x1b[31m")]
    return Packer(build(tmp_path / "pool", [[*samples_of(20), *more], [sample(i, emit=WEB) for i in range(50, 59)]]))


def folder(packer: Packer) -> Path:
    return Path(packer.pool.storage.url) / "packs" / packer.folders[0]


def manifest_of(**more: Any) -> dict[str, Any]:
    """A manifest by hand."""
    base: dict[str, Any] = {
        "curate": "1",
        "recipe": {"name": "mine", "yaml": "recipe: mine\nfilters: []\n"},
        "pick": "picks/mine@0123456789ab",
        "pack": {"samples": 10, "format": "webdataset", "repeat": "copies", "seed": 0},
        "lists": [{"list": "web", "hash": "00ff", "rows": 100}],
        "counts": {"rows": 90, "kept": 60, "times": 60, "samples": 60, "files": 2, "bytes": 123_456},
        "dropped": [
            {"id": "english", "filter": "language", "count": 25},
            {"id": "removed", "filter": None, "count": 5},
        ],
        "census": {"list": {"web@00ff": 60}, "lang": {"en": 58, "de": 2}, "licence": {"CC0": 60}},
        "files": {f"{n:08d}.tar": {"samples": 30, "bytes": 61_728, "sha256": f"{n:064x}"} for n in range(2)},
    }
    return base | more


def front(text: str) -> dict[str, Any]:
    head = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    assert head is not None
    return dict(yaml.safe_load(head[1]))


# ---------------------------------------------------------------- the index


def test_every_copy_has_a_row_that_finds_its_image(packer: Packer) -> None:
    manifest = packer.pack(samples=11)
    seen = []
    for name in manifest["files"]:
        index = pq.read_table(folder(packer) / "samples" / name.replace(".tar", ".parquet"))
        assert index.schema.equals(INDEX)
        data = (folder(packer) / name).read_bytes()
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            members = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}  # type: ignore[union-attr]
        assert [f"{k}.json" for k in index.column("key").to_pylist()] == [n for n in members if n.endswith(".json")]
        for row in index.to_pylist():
            said = json.loads(members[f"{row['key']}.json"])
            image = data[row["offset"] : row["offset"] + row["bytes"]]
            assert image == members[row["image"]]
            assert row["text"] == members[f"{row['key']}.txt"].decode()
            assert row["file"] == name
            for key in ("uid", "url", "list", "recipe", "sha256", "width", "original_height", "copy"):
                assert row[key] == said[key], key
            assert row["kept"] == "no filter"
            seen.append(row["key"])
    assert len(seen) == len(set(seen)) == 32
    assert sum("-" in k for k in seen) == 2


def test_the_index_of_a_parquet_pack_has_no_offsets(packer: Packer) -> None:
    packer.pack(samples=50, format="parquet")
    index = pq.read_table(folder(packer) / "samples" / "00000000.parquet")
    assert index.column("offset").null_count == index.num_rows == 32
    assert front((folder(packer) / "README.md").read_text())["configs"][0]["data_files"][0]["path"] == "[0-9]*.parquet"


def test_what_every_sample_passed() -> None:
    about = {"steps": [{"id": "english"}, {"id": "near"}]}
    assert Origin.of("picks/mine@00", about) == Origin("mine@00", "passed english, near")


def test_censuses_add_up_and_what_cannot_be_counted_is_left_out() -> None:
    found = summed([{"lang": {"en": 2, "de": 1}, "list": {"a": 3}}, {"lang": {"de": 4}, "list": None}])
    assert found == {"lang": {"de": 5, "en": 2}}
    assert list(found["lang"]) == ["de", "en"]
    assert summed([{"licence": {str(i): 1 for i in range(MOST)}}, {"licence": {"one more": 1}}]) == {}


def test_the_column_of_licences() -> None:
    assert licence_column(["url", "License", "rights"]) == "License"
    assert licence_column(["url", "text"]) is None


# ---------------------------------------------------------------- the card


def test_the_card_says_what_the_manifest_knows() -> None:
    text = card(manifest_of())
    head = front(text)
    assert head["language"] == ["en", "de"]
    assert (head["license"], head["license_name"]) == ("other", "CC0")
    assert head["size_categories"] == ["n<1K"]
    assert "| `english` | `language` | 25 | 65 |" in text
    assert "| `removed` |  | 5 | 60 |" in text
    assert "| `web@00ff` | 100 | 60 |" in text
    assert "recipe: mine\nfilters: []" in text
    assert "picks/mine@0123456789ab" in text
    assert "{00000000..00000001}.tar" in text


def test_a_licence_is_only_named_where_all_samples_have_it() -> None:
    head = front(card(manifest_of(census={"licence": {"CC0": 59, "": 1}})))
    assert head["license_name"] == "as the sources state"
    assert "language" not in head


@given(st.text(max_size=200), st.text(max_size=300))
def test_no_name_and_no_recipe_ends_what_it_stands_in(name: str, words: str) -> None:
    made = manifest_of(
        lists=[{"list": name, "hash": "00", "rows": 1}],
        recipe={"name": "mine", "yaml": words},
        census={"licence": {name: 60}, "lang": {name: 60}},
    )
    text = card(made)
    assert front(text)["pretty_name"] == "mine"
    assert re.findall(r"^## (.+)$", re.sub(r"(?ms)^(`{3,})yaml$.*?^\1$", "", text), re.MULTILINE)[:2] == [
        "What was dropped", "Sources",
    ]  # fmt: skip
    rows = [line for line in text.split("## Sources")[1].splitlines() if line.startswith("| ")]
    assert rows[2].count(" | ") == 2, "a table row stays one"
    assert visible(text, "\n\t") == text, "nothing that moves a cursor or turns text around"


@given(st.text(min_size=1, max_size=60))
def test_a_code_span_closes_where_it_should(text: str) -> None:
    said = code(text)
    if said:
        fence = re.match("`+", said)
        assert fence is not None
        assert fence[0] not in said[len(fence[0]) : -len(fence[0])]
        assert "|" not in said
        assert "\n" not in said


@pytest.mark.parametrize(
    ("size", "said"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (2.5e9, "2.5 GB"), (3e15, "3000.0 TB")]
)
def test_sizes_in_words(size: float, said: str) -> None:
    assert human(size) == said


@pytest.mark.parametrize("form", ["webdataset", "parquet"])
def test_the_cards_own_code_reads_the_pack(packer: Packer, form: str, tmp_path: Path) -> None:
    packer.pack(samples=11, format=form)
    text = (folder(packer) / "README.md").read_text()
    found = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(found) == (3 if form == "webdataset" else 2)
    env = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "HF_DATASETS_OFFLINE": "1"}
    for script in found:
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=folder(packer), env=env, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.strip()


def test_same_pool_same_card_wherever_it_lies(packer: Packer, tmp_path: Path) -> None:
    packer.pack(samples=11)
    text = (folder(packer) / "README.md").read_text() + (folder(packer) / "croissant.json").read_text()
    assert str(tmp_path) not in text


# ---------------------------------------------------------------- Croissant


def test_croissant_is_valid_and_its_records_are_the_packs(
    packer: Packer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlcroissant = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("Croissant of a pack on disk needs no network")

    monkeypatch.setattr(socket, "create_connection", refused)
    # Its cache of opened tars goes by their name alone: another pack's 00000000.tar would be taken for ours.
    from mlcroissant._src.operation_graph.operations import extract

    monkeypatch.setattr(extract, "EXTRACT_PATH", type(extract.EXTRACT_PATH)(tmp_path / "opened"))
    manifest = packer.pack(samples=11)
    dataset = mlcroissant.Dataset(jsonld=str(folder(packer) / "croissant.json"))
    assert dataset.metadata.issues.errors == set()
    rows = {
        r["key"]: r
        for name in manifest["files"]
        for r in pq.read_table(folder(packer) / "samples" / name.replace("tar", "parquet")).to_pylist()
    }
    seen = set()
    for record in dataset.records("samples"):
        said = {k.split("/")[1]: v.decode() if isinstance(v, bytes) else v for k, v in record.items()}
        row = rows[said["key"]]
        assert (said["uid"], said["text"], said["url"]) == (row["uid"], row["text"], row["url"])
        assert said["width"] == row["width"]
        tar = (folder(packer) / row["file"]).read_bytes()
        stored = Image.open(io.BytesIO(tar[row["offset"] : row["offset"] + row["bytes"]])).convert("RGB")
        assert np.array_equal(np.asarray(said["image"].convert("RGB")), np.asarray(stored))
        seen.add(said["key"])
    assert seen == set(rows)


def test_croissant_names_every_file_with_its_digest() -> None:
    made = manifest_of()
    files = [d for d in croissant(made)["distribution"] if d["@type"] == "cr:FileObject"]
    assert {f["name"]: f["sha256"] for f in files} == {n: f["sha256"] for n, f in made["files"].items()}
    assert croissant(made)["license"] == "CC0"
    assert "license" not in croissant(manifest_of(census={}))


def test_the_manifest_tells_the_funnel_and_the_census(packer: Packer) -> None:
    manifest = packer.pack(samples=11)
    assert manifest["census"]["list"] == {"tiny": 32}
    assert manifest["counts"]["rows"] - sum(d["count"] for d in manifest["dropped"]) == manifest["counts"]["kept"]
    assert pa.types.is_dictionary(INDEX.field("kept").type), "what is the same for all costs nothing"
