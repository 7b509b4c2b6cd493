"""`curate diff`: what it says and draws, of recipes that were run, of picks, and of what cannot be compared."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.ask.diff import compare, print_diff, two_sides
from curate.ask.diff.matching import Change, _changes
from curate.ask.diff.say import WIDTH, _width, as_lines, as_object, table
from curate.errors import UserError
from curate.pool.columns import read_table
from curate.pool.layout import part_file
from curate.pool.pool import Pool
from curate.recipe import load_recipe
from curate.run.job import Job
from curate.run.progress import Progress
from stages.base import shard_name
from tests import pools
from tests.ask.diff_parts import HOSTILE
from tests.ask.pages import Page, drawn

OURS = """html head meta title style body header h1 h2 h3 p dl div dt dd nav ul li a main section table caption thead
tbody tr th td span i b code figure img figcaption pre wbr details summary"""
RECIPE = """
recipe: mine
shard_size: 8
source: {{path: {folder}/pairs.parquet, image: image, text: text, keep: [score]}}
filters:
  - image_size: {{min_side: 20}}
  - id: good
    where: "score >= 0.3"
  - id: exact
    keep_one: {{by: sha256, over: survivors, prefer: ["score desc"]}}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pairs.parquet, mine.yaml and a pool on which it was run, also with min 0.6."""
    folder = tmp_path_factory.mktemp("place")
    images = drawn(20)
    images[19] = images[2]  # the same bytes: one of them stays, the one with the better score
    texts = [f"caption {i}" for i in range(20 - len(HOSTILE))] + HOSTILE
    score = pa.array([i / 20 for i in range(20)], pa.float64())
    pairs = {"image": pa.array(images, pa.binary()), "text": texts, "score": score}
    pq.write_table(pa.table(pairs), folder / "pairs.parquet")
    (folder / "mine.yaml").write_text(RECIPE.format(folder=folder))
    run(folder)
    run(folder, "filters.good.where=score >= 0.6")
    return folder


def run(place: Path, *overrides: str) -> str:
    recipe = load_recipe(str(place / "mine.yaml"), [f"pool={place / 'pool'}", "run.executor=inline", *overrides])
    with Progress(None, "test") as progress:
        return Job(recipe).run(progress).pick


def diff(place: Path, a: str, b: str, capsys: pytest.CaptureFixture[str], **more: Any) -> str:
    given = {"pool": str(place / "pool"), "overrides": [], "out": None, "page": False, "as_json": False, **more}
    print_diff(a, b, **given)
    return capsys.readouterr().out


# ---------------------------------------------------------------- recipes


def test_a_recipe_with_another_threshold(place, capsys):
    mine = str(place / "mine.yaml")
    said = diff(place, mine, mine, capsys, overrides=["filters.good.where=score >= 0.6"])
    words = re.sub(r"\s+", " ", said)
    # 20 samples, scores 0 to 0.95; number 2 has the bytes of number 19. The last 14 and the last 8 pass.
    assert "B mine, filters.good.where=score >= 0.6 picks/mine@" in words
    assert "kept by A 14 70.0% kept by B 8 40.0% by both 8 40.0% only by A (lost) 6 30.0%" in words
    assert "only by B (gained) 0 0.0% Jaccard (both / either) 0.5714" in words
    assert "good.sql: score >= 0.3 -> score >= 0.6" in said
    assert "good both 6 12 0 -6" in words
    assert "why B drops what only A keeps good: where 6" in words
    assert all(len(line) <= WIDTH for line in said.splitlines())


def test_what_changes_for_another_reason_is_told(place, capsys):
    """keep_one asks survivors: it has the same parameters, and others to choose among."""
    mine = str(place / "mine.yaml")
    overrides = ["filters.good.where=score >= 0.6"]
    found = json.loads(diff(place, mine, mine, capsys, overrides=overrides, as_json=True))
    filters = {f["id"]: f for f in found["filters"]}
    assert filters["exact"]["parameters"] == []
    assert filters["exact"]["differs"] == ["the filters above changed: `good`"]
    assert filters["image_size"]["differs"] == []
    assert filters["good"]["parameters"] == [{"key": "sql", "a": "score >= 0.3", "b": "score >= 0.6"}]
    assert (filters["good"]["lost"], filters["good"]["why_lost"]) == (6, {"where": 6})
    assert found["settings"] == []
    assert found["kept"] == {"a": 14, "b": 8, "both": 8, "only_a": 6, "only_b": 0, "jaccard": 8 / 14}


def test_the_same_recipe_says_so_and_writes_no_page(place, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    mine = str(place / "mine.yaml")
    said = diff(place, mine, mine, capsys, page=True)
    assert "14 kept; the same picks: nothing differs" in said
    assert list(tmp_path.iterdir()) == []
    said = diff(place, mine, mine, capsys, page=True, out=tmp_path / "same.html")
    assert "the same picks: nothing differs." in Page((tmp_path / "same.html").read_text()).text


def test_the_page_has_a_name_by_default_and_json_writes_none(place, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    mine, other = str(place / "mine.yaml"), ["filters.good.where=score >= 0.6"]
    json.loads(diff(place, mine, mine, capsys, overrides=other, page=True, as_json=True))
    assert list(tmp_path.iterdir()) == []
    said = diff(place, mine, mine, capsys, overrides=other, page=True)
    (page,) = tmp_path.iterdir()
    assert re.fullmatch(r"mine@[0-9a-f]{12}-mine@[0-9a-f]{12}-diff\.html", page.name)
    assert said.endswith(f"page: {page.name}\n")
    before = page.read_bytes()
    diff(place, mine, mine, capsys, overrides=other, page=True)
    assert page.read_bytes() == before
    with pytest.raises(UserError, match="--no-page and --out contradict"):
        diff(place, mine, mine, capsys, out=page)


def test_a_recipe_that_was_not_run_names_the_command(place, capsys):
    mine = str(place / "mine.yaml")
    files = sorted((place / "pool").rglob("*"))
    with pytest.raises(UserError) as e:
        diff(place, mine, mine, capsys, overrides=["filters.good.where=score >= 0.9"])
    assert f"B, {mine}, has not been run on {place / 'pool'} as it is; first: curate run {mine} " in str(e.value)
    assert f"--set 'filters.good.where=score >= 0.9' --pool {place / 'pool'}" in str(e.value)
    assert len(re.findall(r"mine@[0-9a-f]{12}", str(e.value))) == 2
    assert sorted((place / "pool").rglob("*")) == files


def test_what_cannot_be_compared_is_told(place, capsys, tmp_path):
    mine = str(place / "mine.yaml")
    pick = next((place / "pool" / "picks").iterdir()).name
    for a, b, more, message in (
        (mine, "nobody", {}, "no pick of 'nobody'; picks: picks/mine@"),
        (mine, "mine", {}, "has 2 picks, name one in full"),
        (mine, pick, {"overrides": ["seed=1"]}, f"--set changes a recipe, and {pick} is a pick"),
        (mine, "x.npy", {"overrides": ["seed=1"]}, "--set changes a recipe, and x.npy is a file of uids"),
        (mine, str(tmp_path / "x.npy"), {}, "x.npy: cannot be read as a subset"),
        (mine, str(tmp_path / "x.yaml"), {}, "x.yaml: cannot read this recipe"),
        (pick, pick, {"pool": None}, "name no pool; say which by --pool POOL"),
        (pick, pick, {"pool": str(tmp_path)}, "there is no pool here"),
        (mine, "dedup", {}, "B, dedup: .*this pool was made with other settings\n  shard_size: the pool has 8"),
    ):
        with pytest.raises(UserError, match=message):
            diff(place, a, b, capsys, **more)
    other = tmp_path / "other.yaml"
    other.write_text((place / "mine.yaml").read_text() + f"pool: {tmp_path / 'elsewhere'}\n")
    with pytest.raises(
        UserError, match=r"a diff is of one pool, and .*mine\.yaml reads .*other\.yaml reads .*elsewhere"
    ):
        diff(place, mine, str(other), capsys, pool=None)


def test_a_list_of_uids_that_is_none(place, capsys, tmp_path):
    (tmp_path / "list.txt").write_text("\ufeff00ff\n\nno uid\n", encoding="utf-8")
    pick = next((place / "pool" / "picks").iterdir()).name
    with pytest.raises(UserError, match=r"list\.txt:3: 'no uid' is not a uid"):
        diff(place, pick, str(tmp_path / "list.txt"), capsys)
    (tmp_path / "list.txt").write_text("")
    words = re.sub(r"\s+", " ", diff(place, pick, str(tmp_path / "list.txt"), capsys))
    assert "kept by B 0 0.0%" in words
    assert "B names 0 different uids, of which 0 are among the samples compared." in words


# ---------------------------------------------------------------- the page


def page_of(place: Path, tmp_path: Path, a: str, b: str, capsys: pytest.CaptureFixture[str], **more: Any) -> str:
    diff(place, a, b, capsys, page=True, out=tmp_path / "page.html", **more)
    return (tmp_path / "page.html").read_text(encoding="utf-8")


def test_the_page_shows_who_was_lost_and_why(place, capsys, tmp_path):
    mine = str(place / "mine.yaml")
    source = page_of(place, tmp_path, mine, mine, capsys, overrides=["filters.good.where=score >= 0.6"])
    page = Page(source)
    words = re.sub(r"\s+", " ", page.text)
    assert "Lost: only A keeps them, B drops them here (6)" in words
    assert "Gained: only B keeps" not in words
    assert [a["src"][:23] for t, a in page.tags if t == "img"] == ["data:image/webp;base64,"] * 6
    pool = Pool.open(str(place / "pool"))
    shown = re.findall(r"· *(?:<span[^>]*>)([0-9a-f]{32})", source)
    opened, a, b = two_sides(mine, mine, pool=str(place / "pool"), overrides=["filters.good.where=score >= 0.6"])
    kept = [kept_uids(pool, s.pick or "") for s in (a, b)]
    assert opened.storage.url == pool.storage.url
    assert set(shown) == kept[0] - kept[1]
    assert "- where: score >= 0.3" in words or "-  where: score >= 0.3" in page.text
    assert "exact : the filters above changed: `good`" in words


def kept_uids(pool: Pool, pick: str) -> set[str]:
    found: set[str] = set()
    for shard in pool.about(pick)["shards"]:
        times = read_table(pool.storage, part_file(pick, shard_name(shard)), ["times"])[0].column("times").to_numpy()
        uid = pool.facts(shard, ["uid"])[0].column("uid").to_pylist()
        found |= {u.hex() for u, n in zip(uid, times, strict=True) if n}
    return found


def test_a_duplicate_stands_beside_the_sample_that_stays(tmp_path, capsys):
    place = tmp_path
    pool = pools.empty_pool(place / "pool", [1])
    pools.write_photos(pool, 0, drawn(4), [f"caption {i}" for i in range(4)])
    uid = pool.facts(0, ["uid"])[0].column("uid")

    def lost_to_first(shard: int, of: pa.Array) -> pa.Table:
        dup = pa.array([None, None, uid[0].as_py(), None], pa.binary(16))
        why = pa.array([None, None, "near", None], pa.string())
        return pa.table({"keep": [True, True, False, True], "reason": why, "dup_of": dup})

    every = pools.add_verdict(pool, "where", lambda s, u: np.ones(len(u), bool))
    a = pools.add_pick(pool, "all", [("every", every)])
    b = pools.add_pick(pool, "one_each", [("near", pools.add_verdict(pool, "keep_one", lost_to_first))])
    page = Page(page_of(place, tmp_path, a, b, capsys))
    words = re.sub(r"\s+", " ", page.text)
    assert sum(t == "img" for t, _ in page.tags) == 2
    assert f"dropped near caption 2 {size(pool, 2)} · {uid[2].as_py().hex()}" in words
    assert f"stays caption 0 {size(pool, 0)} · {uid[0].as_py().hex()}" in words
    pool.remove(uid[:1].combine_chunks(), "takedown")
    source = page_of(place, tmp_path, a, b, capsys)
    assert (uid[2].as_py().hex() in source, uid[0].as_py().hex() in source) == (True, False)


def size(pool: Pool, row: int) -> str:
    facts = pool.facts(0, ["width", "height"])[0].slice(row, 1).to_pylist()[0]
    return f"{facts['width']}×{facts['height']}"


def test_nothing_from_the_web_becomes_markup_or_control(place, capsys, tmp_path):
    mine = str(place / "mine.yaml")
    uids = tmp_path / "<img src=x onerror=alert(1)>.txt"
    uids.write_text("")
    source = page_of(place, tmp_path, mine, str(uids), capsys)
    page = Page(source)
    assert {t for t, _ in page.tags} <= set(OURS.split())
    assert not [a for _, attrs in page.tags for a in attrs if a.startswith("on")]
    for tag, attrs in page.tags:
        assert attrs.get("src", "data:image/webp;base64,").startswith("data:image/webp;base64,")
        assert (attrs.get("href") or "#").startswith("#")
        assert tag not in ("script", "iframe", "object", "embed", "link", "base", "form")
    policy = [a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    anchors = {a["href"][1:] for t, a in page.tags if t == "a"}
    assert anchors == {a["id"] for t, a in page.tags if t == "section"}
    assert not re.search(r"url\((?!#)", source)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", source)
    assert "<script>alert(1)</script>" in page.text
    assert "not in the file" in page.text
    assert len(source) < 200_000


def test_hostile_hosts_and_reasons_in_a_terminal(tmp_path, capsys):
    pool = pools.empty_pool(tmp_path / "pool", [1])
    pools.write_photos(pool, 0, drawn(6), HOSTILE[:6])
    facts, footer = pool.facts(0)
    hosts = ["\x1b[2J", "‮gnp", "<b>", "界" * 200, "é" * 200, "ok"]
    urls = pa.array([f"http://{h}/a" for h in hosts], pa.string())
    pools.write_facts(pool, 0, facts.set_column(facts.schema.get_field_index("url"), "url", urls), footer["tar"])

    def refuse(shard: int, uid: pa.Array) -> pa.Table:
        why = pa.array([*[None] * 4, "\x1b]0;x\x07", "<i>"], pa.string())
        return pa.table({"keep": [True, True, True, True, False, False], "reason": why})

    a = pools.add_pick(pool, "a", [("x" * 150, pools.add_verdict(pool, "mine", lambda s, u: np.arange(6) > 3))])
    b = pools.add_pick(pool, "b", [("y", pools.add_verdict(pool, "where", refuse))])
    said = diff(tmp_path, a, b, capsys)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", said)
    assert "\\u001b]0;x\\u0007 1" in said
    assert max(map(_width, said.splitlines())) <= WIDTH
    page = Page(page_of(tmp_path, tmp_path, a, b, capsys))
    assert {t for t, _ in page.tags} <= set(OURS.split())
    assert "\\u001b]0;x\\u0007" in page.text


def test_an_empty_pick_and_an_empty_pool(tmp_path, capsys):
    pool = pools.synthetic(tmp_path / "pool", [3, 0])
    a, none = (
        pools.add_pick(pool, n, [("w", pools.add_verdict(pool, n, lambda s, u, k=keep: np.full(len(u), k)))])
        for n, keep in (("all", True), ("none", False))
    )
    words = re.sub(r"\s+", " ", diff(tmp_path, a, none, capsys))
    assert "kept by B 0 0.0% by both 0 0.0% only by A (lost) 3 100.0%" in words
    assert "Jaccard (both / either) 0.0000" in words
    assert "3 shown" not in page_of(tmp_path, tmp_path, none, none, capsys)
    empty = pools.synthetic(tmp_path / "second" / "pool", [0])
    made = [pools.add_pick(empty, n, [("w", pools.add_verdict(empty, n, lambda s, u: np.ones(0, bool)))]) for n in "xy"]
    words = re.sub(r"\s+", " ", diff(tmp_path / "second", *made, capsys))
    assert "kept by A 0 kept by B 0" in words
    assert "Jaccard (both / either) -" in words
    assert "Both keep the same samples" in words
    assert "Neither keeps a sample." in page_of(tmp_path / "second", tmp_path, *made, capsys)


# ---------------------------------------------------------------- which filter is which


def test_filters_are_paired_by_name_then_by_what_they_say(tmp_path):
    pool = pools.synthetic(tmp_path / "pool", [4])
    made = 0

    def step(id: str, method: str, **parameters: Any) -> tuple[str, str]:
        nonlocal made
        made += 1
        folder = pools.add_verdict(pool, method, lambda s, u: np.ones(len(u), bool), key=str(made))
        pools.about(pool, folder, id=id, identity={"name": method, "version": 1, "parameters": parameters})
        return id, folder

    a = pools.add_pick(pool, "a", [
        step("where", "where", sql="x"), step("where-2", "where", sql="y"), step("english", "language", min_prob=0.5),
        step("near", "keep_one", distance=4), step("size", "image_size", side=1), step("sql_a", "where", sql="p"),
    ])  # fmt: skip
    b = pools.add_pick(pool, "b", [
        step("lang", "language", min_prob=0.6, keep=["en"]), step("where", "where", sql="y"),
        step("size", "image_size", side=2), step("near", "keep_one", distance=4), step("sql_b", "where", sql="q"),
    ])  # fmt: skip
    found = compare(*two_sides(a, b, pool=pool.storage.url, overrides=[]))
    told = [(p.id, p.id_b, p.place, [vars(c) for c in p.parameters]) for p in found.pairs if p.method]
    assert told == [
        ("where", None, "A", []),
        ("where-2", "where", "both", []),
        ("english", "lang", "both", [{"key": "min_prob", "a": 0.5, "b": 0.6}, {"key": "keep", "a": None, "b": ["en"]}]),
        ("near", None, "both", []),
        ("size", None, "both", [{"key": "side", "a": 1, "b": 2}]),
        ("sql_b", None, "B", []),
        ("sql_a", None, "A", []),
    ]
    assert found.reordered
    said = "\n".join(as_lines(found))
    for line in ("sql_b (where): only in B", "where-2: called where in B", "size.side: 1 -> 2", "another order in B"):
        assert line in said
    json.dumps(as_object(found))


def test_one_rule_in_sql_is_not_another_one_because_both_are_sql(tmp_path):
    pool = pools.synthetic(tmp_path / "pool", [4])
    picks = []
    for name, method in (("sharp", "where"), ("matching", "where"), ("one", "keep_one"), ("two", "keep_one")):
        folder = pools.add_verdict(pool, method, lambda s, u: np.ones(len(u), bool), key=name)
        picks.append(pools.add_pick(pool, name, [(name, folder)]))
    for a, b, places in ((0, 1, ["B", "A"]), (2, 3, ["both"])):
        found = compare(*two_sides(picks[a], picks[b], pool=pool.storage.url, overrides=[]))
        assert [p.place for p in found.pairs if p.method] == places


def test_changes_of_nested_values():
    old = {"a": 1, "emit": [{"copies": 1, "texts": [{"p": 1.0}]}], "keep": ["en"], "gone": {"x": 1}}
    new = {"a": 1, "emit": [{"copies": 2, "texts": [{"p": 1.0}, {"p": 0.5}]}], "keep": ["en", "de"], "new": None}
    assert [Change(*c) for c in _changes(old, new)] == [
        Change("emit.0.copies", 1, 2),
        Change("emit.0.texts.1.p", None, 0.5),
        Change("keep", ["en"], ["en", "de"]),
        Change("gone.x", 1, None),
    ]


def test_a_table_is_aligned_whatever_stands_in_it():
    lines = table([("name", False), ("n", True)], [["界界", "1"], ["e\u0301a", "1,000"], ["x" * 99, "2"]])
    assert len({_width(line) for line in lines}) == 1
    assert lines[-1].startswith("x" * 33 + "…")
