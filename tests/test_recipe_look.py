"""What `curate init` sees of an input, and the defaults that it chooses after it."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import re
import tarfile
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from init_parts import ENGLISH, GERMAN, picture, seen, urls, written

from curate.init import write_recipe
from curate.init.choices import kept_languages, least_side, least_words, nice_shard_size
from curate.init.look import captions, hosts
from curate.init.pictures import Sizes
from curate.init.sample import BYTES, ROWS, Count, Thinned, spread
from curate.init.say import summary
from curate.init.tables import WHOLE
from curate.pool.lists import Findings
from curate.recipe import load_recipe
from curate.run.sources.source import open_source

# ---------------------------------------------------------------- counts and samples


@given(n=st.integers(0, 3000), limit=st.integers(1, 300))
def test_thinned_items_lie_at_even_distances(n: int, limit: int) -> None:
    thinned: Thinned[int] = Thinned(limit)
    thinned.add(range(n))
    steps = {b - a for a, b in zip(thinned.items, thinned.items[1:], strict=False)}
    assert thinned.seen == n
    assert len(steps) <= 1
    assert len(thinned.items) == n if n < 2 * limit else limit <= len(thinned.items) < 2 * limit
    assert thinned.items[:1] == [0][: min(n, 1)]


@given(n=st.integers(0, 500), k=st.integers(1, 50))
def test_spread_takes_as_many_as_there_are(n: int, k: int) -> None:
    found = spread(range(n), k)
    assert len(found) == len(set(found)) == min(n, k)
    assert found == sorted(found)


def test_counts_say_whether_they_are_counted() -> None:
    assert str(Count(7_953, True)) == "7,953"
    assert str(Count(1_234_567, False)) == "about 1,200,000"
    assert str(Count(7, True) + Count(8, False)) == "about 15"


def test_footers_of_parquet_are_counted_and_rows_come_from_many_files(tmp_path: Path) -> None:
    for i in range(12):
        pq.write_table(pa.table({"url": urls(700), "n": [i] * 700}), tmp_path / f"{i:02}.parquet", row_group_size=200)
    found = seen(tmp_path / "*.parquet").sample
    assert found.rows == Count(8400, True)
    assert found.size == Count(sum(p.stat().st_size for p in tmp_path.glob("*.parquet")), True)
    assert found.taken == ROWS
    assert set(found.values["n"]) == {0, 1, 3, 4, 6, 7, 9, 10}  # eight files, evenly


def test_of_a_big_row_group_only_the_first_pages_are_read(tmp_path: Path) -> None:
    """Random text cannot be compressed: 20,000 rows of a kilobyte are twice what is held."""
    words = random.Random(0)
    texts = ["".join(words.choices("abcdefgh ", k=1000)) for _ in range(10_000)]
    pq.write_table(pa.table({"url": urls(10_000), "text": texts}), tmp_path / "a.parquet", use_dictionary=False)
    assert pq.read_metadata(tmp_path / "a.parquet").row_group(0).total_byte_size > BYTES // 4
    found = seen(tmp_path / "a.parquet").sample
    assert found.rows == Count(10_000, True)
    assert 500 < found.taken <= ROWS + 64
    assert found.values["url"][:5] == urls(5)


LONG = 40_000


@pytest.fixture(scope="module")
def long_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More than is read whole; a third of the captions have quotes, commas and line breaks."""
    path = tmp_path_factory.mktemp("long") / "long.csv"
    with path.open("w", newline="") as f:
        out = csv.writer(f)
        out.writerow(["url", "caption", "score"])
        for i, url in enumerate(urls(LONG)):
            text = f"number {i} of a long list of captions, " + "and so on " * 20
            out.writerow([url, f'{text}"quoted",\nand broken' if i % 3 == 0 else text, i / LONG])
    assert path.stat().st_size > WHOLE
    return path


@pytest.mark.parametrize("packed", [False, True])
def test_of_a_long_csv_pieces_are_read_and_the_rest_is_estimated(long_csv: Path, tmp_path: Path, packed: bool) -> None:
    path = long_csv
    if packed:
        text = long_csv.read_bytes()
        noise = random.Random(0).randbytes(3 << 20).hex().encode()  # so that it stays long
        pieces = (noise[i : i + 300] for i in range(0, len(noise), 300))
        lines = [b"url,caption,score\n", *(b"https://a.example/x,%b,1\n" % p for p in pieces)]
        path = tmp_path / "long.csv.gz"
        path.write_bytes(gzip.compress(b"".join(lines) + text[text.index(b"\n") + 1 :], 1))
        assert path.stat().st_size > WHOLE // 4
    found = seen(path)
    assert found.sample.rows.exact is False
    assert found.sample.taken == ROWS
    if not packed:
        assert abs(found.sample.rows.n - LONG) < 0.05 * LONG
        assert all(re.fullmatch(r"https://host\d\.example/\d+\.jpg", u) for u in found.sample.values["url"])
        numbers = [int(re.match(r"number (\d+)", t)[1]) for t in found.sample.values["caption"]]  # type: ignore[index]
        assert min(numbers) < LONG / 10
        assert max(numbers) > LONG * 0.9
    assert "of about " in summary(found, _out(tmp_path, path))


def _out(tmp_path: Path, source: Path) -> Path:
    out = tmp_path / "summary.yaml"
    write_recipe(str(source), out)
    return out


def test_jsonl_plain_and_packed(tmp_path: Path) -> None:
    rows = [{"image_url": u, "alt": ENGLISH[i % 2], "n": i} for i, u in enumerate(urls(50))]
    text = "".join(json.dumps(r) + "\n" for r in rows)
    (tmp_path / "a.jsonl").write_text(text)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("a.jsonl", "b.jsonl.gz"):
        found = seen(tmp_path / name)
        assert found.sample.rows == Count(50, True)
        assert found.sample.columns == {"image_url": "string", "alt": "string", "n": "int64"}
        assert (found.roles["url"].name, found.roles["text"].name) == ("image_url", "alt")


def test_remote_files_are_looked_at_as_local_ones(tmp_path: Path) -> None:
    fs = fsspec.filesystem("memory")
    sink = io.BytesIO()
    pq.write_table(pa.table({"url": urls(30), "text": ENGLISH * 15}), sink)
    fs.pipe("/look/a.parquet", sink.getvalue())
    fs.pipe("/look/b.csv", b"url,text\nhttps://a.example/1,a dog\n")
    fs.pipe("/look-at-photos/1.png", picture((300, 200), "PNG"))
    fs.pipe("/look-at-photos/1.txt", ENGLISH[0].encode())
    recipe, text = written(tmp_path, "memory://look/*.parquet")
    assert recipe.sources[0].path == "memory://look/*.parquet"
    assert "all of 30 rows in 1 file" in text
    assert seen("memory://look/b.csv").sample.rows == Count(1, True)
    photos = seen("memory://look-at-photos")
    assert photos.captions is not None
    assert photos.sizes is not None
    assert (photos.captions.full, photos.sizes.pixels) == (1, ((300, 200),))


# ---------------------------------------------------------------- pictures


def test_tars_and_folders_give_captions_sizes_and_further_columns(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for i in range(20):
            about = json.dumps({"similarity": i / 20, "url": urls(20)[i]}).encode()
            members = {"jpg": picture((400 + i, 300)), "txt": ENGLISH[i % 2].encode(), "json": about}
            for suffix, data in members.items():
                info = tarfile.TarInfo(f"{i:03}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    found = seen(tmp_path / "a.tar")
    assert found.sample.rows == Count(20, True)
    assert found.sample.columns["similarity"] == "double"
    assert found.captions is not None
    assert found.captions.languages == {"en": 20}
    assert found.sizes is not None
    assert sorted(found.sizes.pixels) == [(400 + i, 300) for i in range(20)]
    with tarfile.open(tmp_path / "a.tar") as tar:
        tar.extractall(tmp_path / "photos", filter="data")
    folder = seen(tmp_path / "photos")
    assert folder.captions == found.captions
    assert folder.sizes is not None
    assert sorted(folder.sizes.pixels) == sorted(found.sizes.pixels)


def test_a_table_in_a_folder_gives_the_captions_that_no_sidecar_gives(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    (folder / "train").mkdir(parents=True)
    rows = [f"train/{i}.png,{ENGLISH[i % 2]},{i}" for i in range(10)]
    for i in range(10):
        (folder / "train" / f"{i}.png").write_bytes(picture((300, 200), "PNG"))
    (folder / "metadata.csv").write_text("\n".join(["file_name,caption,score", *rows]))
    recipe, text = written(tmp_path, folder)
    spec = recipe.sources[0]
    assert (spec.kind, spec.table, spec.file, spec.text) == ("folder", "metadata.csv", "file_name", "caption")
    assert 'carried along: "score" (int64)' in text
    rows_read = list(open_source(spec).survey(Findings()))
    assert [t for r in rows_read for t in r.table["text"].to_pylist()] == ENGLISH * 5
    (folder / "metadata.csv").write_text("file_name,caption\nelsewhere.png,a dog\n")
    assert seen(folder).roles == {}


def test_parquet_with_bytes_is_looked_at_by_headers_and_hostile_pictures_are_counted(tmp_path: Path) -> None:
    images = [picture((64, 48)), b"no picture", None, picture((200, 300), "WEBP"), b""]
    texts = [*ENGLISH, GERMAN[0], None, ""]
    pq.write_table(pa.table({"image": pa.array(images, pa.binary()), "caption": texts}), tmp_path / "p.parquet")
    found = seen(tmp_path / "p.parquet")
    assert found.sizes is not None
    assert (found.sizes.pixels, found.sizes.unread) == (((64, 48), (200, 300)), 2)
    assert found.captions is not None
    assert (found.captions.taken, found.captions.empty) == (5, 2)


def test_real_hostile_pictures_do_no_harm(shared_data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = seen(shared_data / "hostile" / "hostile_images.tar")
    assert found.sizes is not None
    assert len(found.sizes.pixels) > 30
    assert found.sizes.unread > 0
    assert capfd.readouterr().err == ""


# ---------------------------------------------------------------- defaults


@pytest.mark.parametrize(
    ("rows", "size"), [(5, 100), (800, 100), (801, 200), (2_863, 500), (7_953, 1000), (39_999, 5000), (40_000, None)]
)
def test_small_inputs_get_small_shards(rows: int, size: int | None) -> None:
    assert nice_shard_size(rows) == size


def test_languages_that_make_up_a_tenth_are_kept() -> None:
    assert kept_languages(captions(ENGLISH * 30 + GERMAN * 5)) == ["en", "de"]
    assert kept_languages(captions(ENGLISH * 30 + GERMAN * 2)) == ["en"]
    assert kept_languages(captions(["x", "12", "IMG_4894"])) == []


def test_a_bound_that_would_drop_most_is_lowered() -> None:
    assert least_words(captions(["one two three"] * 3 + ["one two"] * 2)) == 3
    assert least_words(captions(["one two three"] * 2 + ["one two"] * 3)) == 2
    assert least_words(captions(["one"] * 3 + ["one two"])) == 1
    assert least_side(None) == 128
    assert least_side(Sizes(((200, 130), (300, 300)))) == 128
    assert least_side(Sizes(((32, 32), (33, 40), (300, 300)))) == 32
    assert least_side(Sizes(((3, 3), (3, 4), (300, 300)))) == 1


def test_a_list_in_chinese_counts_characters(tmp_path: Path) -> None:
    texts = ["一只棕色的狗在绿色的草地上奔跑", "两个老人坐在公园的木凳上"] * 5
    pq.write_table(pa.table({"url": urls(10), "text": texts}), tmp_path / "zh.parquet")
    recipe, text = written(tmp_path, tmp_path / "zh.parquet")
    assert [s.id for s in recipe.steps] == ["image_size", "not_blank", "languages", "caption_length", "exact"]
    assert "min_chars: 4" in text
    assert "language: {keep: [zh]}" in text


def test_which_column_is_which_is_told_by_values_where_names_do_not_tell(tmp_path: Path) -> None:
    table = {"bild": urls(6), "beschreibung": GERMAN * 3, "id": [f"x{i}" for i in range(6)]}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    recipe, text = written(tmp_path, tmp_path / "a.parquet")
    assert (recipe.sources[0].url, recipe.sources[0].text) == ("bild", "beschreibung")
    assert "url: bild  # by its values" in text
    assert "language: {keep: [de]}" in text


def test_a_list_on_this_machine_is_not_believed_by_itself(tmp_path: Path) -> None:
    """Whoever wrote the list chose its hosts: reaching this machine is for the person to allow."""
    local = [f"http://127.0.0.1:8000/{i}" for i in range(4)] + ["http://localhost/x", "http://[::1]/y"]
    pq.write_table(pa.table({"url": local, "text": ENGLISH * 3}), tmp_path / "a.parquet")
    recipe, text = written(tmp_path, tmp_path / "a.parquet")
    assert recipe.ingest.allow_loopback is False
    assert "\n  # allow_loopback: true\n" in text
    said = summary(seen(tmp_path / "a.parquet"), tmp_path / "r.yaml")
    assert "100% on this machine (loopback)" in " ".join(said.split())
    assert "--set ingest.allow_loopback=true" in said
    line = int(re.search(r"line (\d+) of it", said)[1])  # type: ignore[index]
    assert text.splitlines()[line - 1] == "  # allow_loopback: true"
    assert load_recipe(str(tmp_path / "r.yaml"), ["ingest.allow_loopback=true"]).ingest.allow_loopback is True


def test_hosts_are_counted_by_their_kind() -> None:
    given = ["http://A.example/1", "https://a.example/2", "ftp://a/3", "http://10.0.0.1/", "http://[bad", "", None]
    found = hosts(given)
    assert found.count == {"a.example": 2, "10.0.0.1": 1}
    assert (found.taken, found.other, found.private, found.loopback) == (5, 2, 1, 0)


# ---------------------------------------------------------------- columns of the input


def uncommented(text: str) -> str:
    """The suggested steps taken as they are told: without their #."""
    head, marked, rest = text.partition("  # Columns of the input that a filter could use; take the # away:\n")
    assert marked
    return head + re.sub(r"^  # (- where|  on_missing)", r"  \1", rest, flags=re.MULTILINE)


def test_suggested_steps_load_and_fit_when_the_mark_is_taken_away(tmp_path: Path) -> None:
    table = {
        "url": urls(40),
        "text": ENGLISH * 20,
        "similarity": [0.25 + i / 200 for i in range(40)],
        "pwatermark": [i / 40 for i in range(40)],
        "NSFW": ["UNLIKELY", "it's NSFW"] * 20,
        "license": ["CC-BY 2.0"] * 40,
        "WIDTH": [400 + i for i in range(40)],
        "AESTHETIC_SCORE 2": [5 + i / 40 for i in range(40)],
    }
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    _, text = written(tmp_path, tmp_path / "a.parquet")
    (tmp_path / "more.yaml").write_text(uncommented(text))
    wheres = [s.filter.sql for s in load_recipe(str(tmp_path / "more.yaml")).steps[5:]]  # type: ignore[attr-defined]
    assert wheres == [
        "similarity >= 0.345",
        "pwatermark <= 0.475",
        "NSFW IN ('UNLIKELY')",
        "license IN ('CC-BY 2.0')",
        "source_WIDTH >= 200",
        '"AESTHETIC_SCORE 2" >= 5.47',
    ]


def test_a_column_that_would_hide_one_of_curates_own_is_left_out(tmp_path: Path) -> None:
    table = {"url": urls(6), "text": ENGLISH * 3, "lang": ["english"] * 6, "more": range(6)}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    recipe, text = written(tmp_path, tmp_path / "a.parquet")
    assert recipe.sources[0].keep == ("more",)
    assert "they would hide columns that curate computes: 'lang' (of language)" in text
