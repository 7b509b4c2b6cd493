"""Wrong input ends in words that name the place and the remedy, and nothing that was right is lost."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curate
from curate.ask.output import table_text
from curate.ask.status import print_status
from curate.cli import main
from curate.errors import UserError
from curate.pool.pool import Pool
from curate.recipe import load_recipe
from curate.run.job import Job
from curate.run.planning import print_plan
from curate.run.progress import Progress
from tests.person import Person
from tests.tiny import jpeg


@pytest.fixture
def person(tmp_path: Path) -> Person:
    return Person(tmp_path)


def at(path: Path, *more: str) -> str:
    """A `source:` in one line."""
    return "{" + ", ".join([f"path: {path}", *more]) + "}"


def pictures(path: Path, texts: Sequence[str | None], **more: Sequence[Any]) -> Path:
    """A parquet of small pictures with these captions."""
    pq.write_table(
        pa.table({"text": pa.array(texts, pa.string()), "image": [jpeg(i) for i in range(len(texts))], **more}), path
    )
    return path


def cli(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command as a person gives it, in a process of its own."""
    command = [sys.executable, "-m", "curate.cli", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


# ---------------------------------------------------------------------------------------------- lists


def test_a_missing_column_is_named_with_the_columns_that_are_there(person: Person) -> None:
    path = person.folder / "list.csv"
    path.write_text("URL,TEXT\nhttp://127.0.0.1:9/a.jpg,a dog\n")
    said = person.error(at(path, "url: url"))
    assert said.startswith(f"{path}: no column 'url'")
    assert "It has 'URL', 'TEXT'; did you mean 'URL'?" in said
    assert said.endswith("Say `url: NAME` under `source:`")


def test_a_uid_given_to_two_samples_names_both_rows(person: Person) -> None:
    path = person.folder / "list.parquet"
    urls = [f"http://127.0.0.1:9/{i}.jpg" for i in range(3)]
    pq.write_table(pa.table({"uid": ["a1", "a2", "a1"], "url": urls, "text": ["a dog", "a cat", "a cow"]}), path)
    assert person.error(at(path)) == (
        "uid 000000000000000000000000000000a1 is given twice, for different samples:\n"
        f"  {path}:1: url '{urls[0]}', text 'a dog'\n"
        f"  {path}:3: url '{urls[2]}', text 'a cow'\n"
        "give each sample a uid of its own, or write `uid: null` under `source:` to make uids from text and url"
    )


NO_URL = "all 1 samples were refused: [{{'file': '{path}', 'name': '2', 'reason': 'no url'}}]"
BROKEN = (
    "Parquet magic bytes not found in footer. Either the file is corrupted or this is not a parquet file; "
    "fetch or write the file again"
)
LISTS = {
    "names alone": ("list.csv", "url,text\n", "list list: empty list: {path} has no rows"),
    "no byte of csv": ("list.csv", "", "{path}: is empty; its first line must name the columns"),
    "no byte of jsonl": ("list.jsonl", "", "list list: empty list: {path} has no rows"),
    "no url": ("list.csv", "url,text\n,a dog\n", f"list list: nothing in it can be used; {NO_URL}"),
    "no parquet": ("list.parquet", "PAR1 and then no parquet", f"{{path}}: cannot be read as parquet: {BROKEN}"),
    "ragged": ("list.csv", "url,text\nhttp://a/b.jpg,a dog,a cat\n", "{path}:2: 3 fields where the header has 2"),
}


@pytest.mark.parametrize(("name", "content", "says"), LISTS.values(), ids=LISTS)
def test_lists_that_are_empty_or_broken(person: Person, name: str, content: str, says: str) -> None:
    path = person.folder / name
    path.write_text(content)
    assert person.error(at(path)).startswith(says.format(path=path))


def test_nothing_there_and_a_folder_in_place_of_a_file(person: Person) -> None:
    gone = person.folder / "gone.csv"
    assert person.error(at(gone)).startswith(f"{gone}: no such file; `path:` under `source:` is relative to ")
    with pytest.raises(UserError, match="no such file"):
        print_plan(load_recipe(person.recipe(at(gone))), as_json=False)
    folder = person.folder / "list.parquet"
    folder.mkdir()
    assert person.error(at(folder, "kind: urls")).startswith(f"{folder}: is a folder; for kind urls say a .parquet")


def test_a_picture_that_went_away_is_an_outcome_and_the_others_stay(person: Person) -> None:
    """It was there when the list was made, and a folder lies in its place when its turn comes."""
    folder = person.folder / "photos"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.jpg").write_bytes(jpeg(i))
        (folder / f"{i}.txt").write_text(f"picture {i}")
    job = Job(load_recipe(person.recipe(at(folder))), "inline")
    with Progress(None, "a test", io.StringIO()) as progress:
        pool = Pool.create(person.pool, job.recipe.ingest.pixels(), job.recipe.shard_size)
        job.claim_lists(pool, progress)
        (folder / "1.jpg").unlink()
        (folder / "1.jpg").mkdir()
        job.walk(pool, progress, dry=False).flush()
    found = {f["outcome"]: f["detail"] for f in person.sql("SELECT outcome, detail FROM fetches")}
    assert found.keys() == {"ok", "unreadable"}
    assert found["unreadable"].startswith(f"{folder}/1.jpg: ")
    assert "Is a directory" in found["unreadable"]
    assert [r["text"] for r in person.sql("SELECT text FROM samples ORDER BY text")] == ["picture 0", "picture 2"]


# ---------------------------------------------------------------------------------------------- captions

WILD = "red\x1b[31m bell\x07 nul\x00 tab\t line\n return\r \u202egnp zero\u200bwidth \U0001f600"


def test_captions_that_are_null_a_megabyte_or_full_of_control_characters_come_through(
    person: Person, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    texts = [None, "", "x" * 999_999 + "y", WILD, "a plain dog"]
    path = pictures(person.folder / "odd.parquet", texts, number=range(5))
    outcome, _ = person.run(at(path), rest="pack: {}\n", pack=True)
    assert (outcome.rows, outcome.dropped) == (5, {"no_text": 1})
    assert [r["text"] for r in person.sql("SELECT text FROM samples ORDER BY number")] == texts
    assert in_packs(person) == {t for t in texts if t is not None}
    shown = table_text(curate.open(person.pool).sql("SELECT text FROM samples ORDER BY number").to_arrow())
    lines = shown.splitlines()
    assert len(lines) == 2 + 5 + 1
    assert lines[2:4] == ["NULL", ""]
    assert lines[4] == "x" * 59 + "…"
    assert lines[5].startswith("red\\u001b[31m bell\\u0007 nul\\u0000 tab\\t line\\n return\\r")
    assert all(c.isprintable() for line in lines for c in line)


def in_packs(person: Person) -> set[str]:
    found = set()
    for tar in Path(person.pool).glob("packs/*/*.tar"):
        with tarfile.open(tar) as t:
            found |= {t.extractfile(m).read().decode() for m in t if m.name.endswith(".txt")}  # type: ignore[union-attr]
    return found


def test_a_null_that_a_filter_meets_is_named_with_what_to_write(person: Person) -> None:
    path = pictures(person.folder / "odd.parquet", ["two words", None])
    said = person.error(at(path), "  - caption_length: {min_words: 2}\n")
    (uid,) = (r["uid"] for r in person.sql("SELECT uid FROM samples WHERE text IS NULL"))
    assert said == (
        f"filter caption_length: sample {uid} has no value for n_words, and nothing says what then; "
        "add `on_missing: drop` or `on_missing: keep` to this filter"
    )
    outcome, _ = person.run(at(path), "  - caption_length: {min_words: 2}\n    on_missing: drop\n")
    assert (outcome.kept, outcome.dropped) == (1, {"caption_length": 1})


# ---------------------------------------------------------------------------------------------- tars


def tar_of(path: Path, members: Sequence[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_of_a_cut_tar_the_whole_samples_are_taken_and_the_place_is_told(
    person: Person, capsys: pytest.CaptureFixture[str]
) -> None:
    members = [m for i in range(10) for m in ((f"{i:03}.jpg", jpeg(i, 40)), (f"{i:03}.txt", b"number %d" % i))]
    path = tar_of(person.folder / "cut.tar", members)
    with tarfile.open(path) as tar:
        inside = tar.getmember("006.jpg").offset_data + 700
    path.write_bytes(path.read_bytes()[:inside])
    damage = f"cut off at byte {inside}, inside '006.jpg'; sample '006' was being read and is left out"
    outcome, said = person.run(at(path))
    assert said[0] == f"list cut: 6 new samples in 1 shard; damaged: {path} ({damage})"
    assert outcome.kept == 6
    assert [r["text"] for r in person.sql("SELECT text FROM samples ORDER BY text")] == [
        f"number {i}" for i in range(6)
    ]
    print_status(person.pool, as_json=False)
    assert f"    damaged: {path}: {damage}" in capsys.readouterr().out.splitlines()


def test_members_that_would_leave_the_folder_are_refused_by_name_and_written_nowhere(
    person: Person, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = ["../x", "/etc/curate_x", "a/../../y"]
    members = [m for n in [*bad, "good/1"] for m in ((f"{n}.jpg", jpeg(len(n))), (f"{n}.txt", b"a dog"))]
    path = tar_of(person.folder / "evil.tar", members)
    outcome, said = person.run(at(path), rest="pack: {}\n", pack=True)
    assert said[0] == "list evil: 1 new samples in 1 shard; 3 refused (member name leaves the folder)"
    assert (outcome.rows, outcome.kept) == (1, 1)
    assert person.files() == {"evil.tar"}
    assert not Path("/etc/curate_x.jpg").exists()
    assert not (person.folder.parent / "x.jpg").exists()
    print_status(person.pool, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[1] for line in lines if "leaves the folder" in line] == bad


# ---------------------------------------------------------------------------------------------- recipes and pools


def test_every_error_of_a_recipe_is_told_at_once_with_its_line(person: Person) -> None:
    source = "{path: list.csv, texts: TEXT}"
    filters = (
        "  - image_sze: {min_side: 100}\n"
        "  - image_size: {min_sides: 100}\n"
        "  - image_size: {min_side: abc}\n"
        '  - where: "sharpness > 3; drop table x"\n'
        "  - language: {keep: []}\n"
    )
    with pytest.raises(UserError) as caught:
        load_recipe(person.recipe(source, filters, "seeed: 3\n"))
    places = {
        line.split(": ")[0].removeprefix(f"{person.folder}/r.yaml:").split(":")[0]: line
        for line in str(caught.value).splitlines()
    }
    expected = {
        "3": ["source.texts", "unknown key; did you mean 'text'?"],
        "5": ["'image_sze' is not known; did you mean 'image_size'?", "built in: where, image_size"],
        "6": ["min_sides: unknown key; did you mean 'min_side'?"],
        "7": ["min_side", "expected a whole number", '"abc"'],
        "8": ["where", "is not an SQL expression", "syntax error"],
        "9": ["language.keep", "expected at least one entry"],
        "10": ["seeed", "unknown key; did you mean 'seed'?"],
    }
    assert places.keys() == expected.keys()
    assert [(line, word) for line, words in expected.items() for word in words if word not in places[line]] == []
    assert not Path(person.pool).exists()


def test_an_unknown_column_in_where_is_found_before_a_picture_is_fetched(person: Person) -> None:
    path = pictures(person.folder / "some.parquet", ["a dog"], score=[0.5])
    said = person.error(at(path), '  - where: "sharpnes > 3"\n')
    assert said.startswith(f"{person.folder}/r.yaml:5:")
    assert "no column 'sharpnes'; did you mean 'sharpness'?" in said
    assert not (Path(person.pool) / "pixels").exists()
    outcome, _ = person.run(at(path), '  - where: "score > 0.4"\n')
    assert outcome.kept == 1


def test_a_pool_of_other_settings_is_refused_and_stays_as_it_is(person: Person) -> None:
    path = pictures(person.folder / "some.parquet", ["a dog", "a cat"])
    person.run(at(path))
    before = {p: p.read_bytes() for p in Path(person.pool).rglob("*") if p.is_file()}
    said = person.error(at(path), rest="ingest: {side: 224, resize: none}\nshard_size: 7\n")
    assert said == (
        f"{person.pool}: this pool was made with other settings\n"
        "  format: the pool has 'jpg', the recipe says None\n"
        "  resize: the pool has 'long', the recipe says 'none'\n"
        "  shard_size: the pool has 10000, the recipe says 7\n"
        "  side: the pool has 512, the recipe says 224\n"
        "use the pool's values in the recipe, or name another pool (`pool:`)"
    )
    assert {p: p.read_bytes() for p in Path(person.pool).rglob("*") if p.is_file()} == before


def test_the_plan_says_which_list_is_not_read_yet(person: Person, capsys: pytest.CaptureFixture[str]) -> None:
    path = pictures(person.folder / "some.parquet", ["a dog"])
    person.run(at(path))
    more = pictures(person.folder / "more.parquet", ["a cat"])
    loaded = load_recipe(person.recipe(f"[{{path: {path}}}, {{path: {more}}}]"))
    print_plan(loaded, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines if "not read yet" in line] == ["list more"]
    print_plan(loaded, as_json=True)
    assert json.loads(capsys.readouterr().out)["unread"] == ["more"]


# ---------------------------------------------------------------------------------------------- the command itself


@pytest.fixture
def beside(person: Person, monkeypatch: pytest.MonkeyPatch) -> Person:
    """A person with a list whose columns are called otherwise, a file where a pool could be, and a broken recipe."""
    (person.folder / "list.csv").write_text("URL,TEXT\nhttp://127.0.0.1:9/a.jpg,a dog\n")
    (person.folder / "file").write_text("no pool")
    (person.folder / "wrong.yaml").write_text("recipe: x\n\tsource: 3\n")
    person.recipe("{path: list.csv, url: urls}")
    monkeypatch.chdir(person.folder)
    return person


COMMANDS = {
    "run r.yaml": "curate: {folder}/list.csv: no column 'urls'",
    "run r.yaml --executor spark": "curate: --executor spark: it is one of auto, inline, ray",
    "run r.yaml --pool file": "curate: {folder}/file",
    "run wrong.yaml": "curate: wrong.yaml:2:1: this is not YAML",
    "run no_filtr": "curate: no_filtr: no such file, and no built-in recipe; did you mean 'no_filter'?",
    "run r.yaml --set filters.image_sise.min_side=3": "curate: --set filters.image_sise.min_side=3: filters has no",
    "status nowhere": "curate: nowhere: there is no pool here; `curate run RECIPE` makes one",
    "status file": "curate: {folder}/file/pool.json: Not a directory",
    "purge nowhere --uids none.txt --why asked": "curate: none.txt: No such file or directory",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_says_what_is_wrong(
    command: str, beside: Person, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["curate", *command.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (1, "")
    assert err.startswith(COMMANDS[command].format(folder=beside.folder))


def test_the_command_ends_with_a_status_and_never_a_traceback(beside: Person) -> None:
    for words, code, says in (
        (("run", "r.yaml"), 1, f"curate: {beside.folder}/list.csv: no column 'urls'"),
        (("run",), 2, "Usage: "),
    ):
        done = cli(beside.folder, *words)
        assert (done.returncode, done.stdout) == (code, "")
        assert done.stderr.startswith(says)
        assert "Traceback" not in done.stderr
