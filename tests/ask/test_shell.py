"""The shell: on a real terminal, from a pipe, its completion and the ten questions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

import curate
from curate.ask.prompt import SqlCompleter
from curate.ask.questions import COUNT, questions
from curate.ask.shell import first_rows
from curate.ask.statements import inside_quotes, is_complete, split
from curate.pool.pool import Pool
from tests import pools
from tests.ask.terminal import ROOT, Terminal

HOSTILE = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202eevil\r\n<script>"


def languages(shard: int, uid: pa.Array) -> pa.Table:
    said = pa.array(["en", "de", "en", None, HOSTILE]).take(pa.array(np.arange(len(uid)) % 5))
    return pa.table({"lang": said, "lang_prob": np.linspace(0, 1, len(uid), dtype=np.float32)})


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> Pool:
    pool = pools.synthetic(tmp_path_factory.mktemp("shell") / "pool", [30, 20])
    pools.add_column(pool, "language", languages)
    pools.add_fetches(pool, 0, ["ok"] * 30 + ["dns", "timeout"])
    verdict = pools.add_verdict(pool, "english", lambda s, u: np.arange(len(u)) % 2 == 0)
    pools.add_pick(pool, "demo", [("english", verdict)])
    return pool


@pytest.fixture
def terminal(pool, tmp_path):
    with Terminal(["sql", pool.storage.url], tmp_path) as opened:
        opened.see("curate>")
        yield opened


# ---------------------------------------------------------------- on a terminal


def test_ask_and_leave(terminal, tmp_path):
    terminal.type("SELECT count(*) AS n\r")
    terminal.see("AS n")
    terminal.type("FROM samples;\r")  # the first Enter only opened a line
    assert "50" in terminal.see("(1 row, 0.")
    terminal.see("curate>")
    terminal.type("\x04")
    assert terminal.status() == 0
    history = tmp_path / "state" / "curate" / "sql_history"
    assert "+SELECT count(*) AS n\n+FROM samples;" in history.read_text()
    assert history.stat().st_mode & 0o077 == 0


def test_the_pool_keeps_nothing_of_a_session(pool, tmp_path):
    before = sorted(Path(pool.storage.url).rglob("*"))
    with Terminal(["sql", pool.storage.url], tmp_path) as t:
        t.see("curate>")
        t.type("FROM samples;\r")
        t.see("(50 rows")
        t.see("curate>")
        t.type(".quit\r")
        assert t.status() == 0
    assert sorted(Path(pool.storage.url).rglob("*")) == before


def test_tab_completes_columns_of_the_view_that_follows(terminal):
    terminal.type("SELECT lang_p FROM samples;")
    terminal.see("samples;")
    terminal.type("\x1b[D" * len(" FROM samples;") + "\t")
    terminal.see("rob FROM samples;")  # the rest of lang_prob
    terminal.type("\x05\r")
    assert "lang_prob" in terminal.see("(50 rows")


def test_ctrl_c_ends_the_query_and_not_the_shell(terminal):
    terminal.type("SELECT max(sleep_ms(20)) FROM range(100000) t(i) WHERE i >= 0;\r")
    with pytest.raises(AssertionError, match="did not come"):
        terminal.see("row,", 1.5)  # it runs
    terminal.type("\x03")
    terminal.see("error: cancelled", 10)
    terminal.see("curate>")
    terminal.type("SELECT 6 * 7 AS answer;\r")
    assert "42" in terminal.see("(1 row,")
    terminal.see("curate>")
    terminal.type("SELECT half\x03")  # at the prompt it drops what was typed
    terminal.see("curate>")
    terminal.type("SELECT 'still here' AS said;\r")
    assert "still here" in terminal.see("(1 row,")


def test_a_wrong_query_is_told_and_the_shell_goes_on(terminal):
    terminal.type("SELECT widht FROM samples;\r")
    terminal.see('"width"')
    terminal.type("COPY samples TO 'x.csv';\r")
    terminal.see("error: COPY is refused")
    terminal.type(".nonsense\r")
    terminal.see("error: .nonsense is no command; there are .help")
    terminal.type(".show ffffffff\r")
    terminal.see("no sample, download or list has the uid 'ffffffff'")
    terminal.type(".out /nowhere/x.csv\r")
    terminal.see("its folder is not there")
    terminal.type("SELECT 1 AS fine;\r")
    terminal.see("(1 row,")


@pytest.mark.parametrize("format", ["table", "csv", "json", "jsonl"])
def test_hostile_text_does_not_reach_the_terminal(pool, tmp_path, format):
    with Terminal(["sql", pool.storage.url, "--format", format], tmp_path) as t:
        t.see("curate>")
        t.type("SELECT lang, 'a' || 'b' AS done FROM samples WHERE starts_with(lang, chr(27)) LIMIT 1;\r")
        assert "owned" in t.see("ab")
        t.type("SELECT CAST(lang AS INTEGER) FROM samples WHERE starts_with(lang, chr(27));\r")
        t.see("Could not convert")
        t.see("owned")
        t.type(".show " + pools.uids(0, 5)[4].as_py().hex() + "\r")
        assert "owned" in t.see("pick demo@")
        for code in (b"\x1b[2J", b"\x1b]0;", b"\x07", "\x9b31m".encode(), "\u202e".encode()):
            assert code not in t.raw


def test_long_answers_go_through_the_pager_and_short_ones_do_not(pool, tmp_path):
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\nwc -l | sed s/^/LINES-PAGED:/\n")
    pager.chmod(0o755)
    with Terminal(["sql", pool.storage.url], tmp_path, PAGER=str(pager)) as t:
        t.see("curate>")
        t.type("SELECT uid FROM samples;\r")
        t.see("LINES-PAGED:53")
        t.see("curate>")
        t.type("SELECT uid FROM samples LIMIT 3;\r")
        assert "LINES-PAGED" not in t.see("(3 rows")
        t.see("curate>")
        t.type("SELECT range FROM range(1000000000);\r")  # only what is shown is fetched
        t.see("LINES-PAGED:1003", 10)


def test_dot_commands(terminal, pool, tmp_path):
    terminal.type(".views\r")
    assert "fetches" in terminal.see("removed")
    terminal.see("curate>")
    terminal.type(".columns picks\r")
    assert "dropped_by" in terminal.see("(10 rows)")
    terminal.see("curate>")
    terminal.type(".format csv\r")
    terminal.see("curate>")
    terminal.type(".out answer.csv\r")
    terminal.see("curate>")
    terminal.type("SELECT uid, width FROM samples ORDER BY uid;\r")
    terminal.see("bytes written to answer.csv")
    assert len((tmp_path / "answer.csv").read_text().splitlines()) == 51
    terminal.type(".out answer.csv\r")
    terminal.see("curate>")
    terminal.type("SELECT error('no');\r")
    terminal.see("error: ")
    assert len((tmp_path / "answer.csv").read_text().splitlines()) == 51  # a query that fails leaves it
    assert sorted(p.name for p in tmp_path.iterdir()) == ["answer.csv", "state"]
    uid = pools.uids(0, 1)[0].as_py().hex()
    terminal.type(f".show {uid[:12]}\r")
    assert "en" in terminal.see("pick demo@")


def test_help_has_ten_questions_each_run_by_its_number(terminal):
    terminal.type(".help\r")
    terminal.see(".10 ")
    for number in range(1, COUNT + 1):
        terminal.see("curate>")
        terminal.type(f".{number}\r")
        terminal.see("row")
        assert "error" not in terminal.see(" s)")
    terminal.see("curate>")
    terminal.type(".11\r")
    terminal.see("questions are .1 to .10")


# ---------------------------------------------------------------- from a pipe


def piped(pool: Pool, text: str, *options: str, home: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "curate.cli", "sql", pool.storage.url, *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, input=text, capture_output=True, text=True, cwd=home, env=environment, timeout=60)


def test_statements_of_standard_input_until_one_fails(pool, tmp_path):
    text = "SELECT 1 AS a;\n.columns funnel\nSELECT ';' AS b, -- a ; note\n 2 AS c; SELECT nothing; SELECT 3 AS never;"
    done = piped(pool, text, home=tmp_path)
    assert done.returncode == 1
    assert "dropped_alone" in done.stdout
    assert done.stdout.index("a\n") < done.stdout.index("dropped_alone") < done.stdout.index(";  2")
    assert "never" not in done.stdout
    assert done.stderr.startswith("curate: ")
    assert "nothing" in done.stderr


def test_formats_and_the_last_statement_without_its_end(pool, tmp_path):
    done = piped(pool, "SELECT 1 AS a; SELECT 2 AS b", "--format", "csv", home=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "a\r\n1\r\nb\r\n2\r\n".replace("\r\n", "\n"), "")
    assert piped(pool, "", home=tmp_path).stdout == ""
    assert piped(pool, "-- only a note\n;;\n", home=tmp_path).returncode == 0
    done = piped(pool, "SELECT 1", "--format", "xml", home=tmp_path)
    assert (done.returncode, done.stderr) == (
        1,
        "curate: format 'xml': it is one of table, csv, json, jsonl, parquet\n",
    )
    done = piped(pool, ".format parquet\n.out x.parquet\nSELECT uid FROM samples;\n", home=tmp_path)
    assert done.returncode == 0
    assert pq.read_table(tmp_path / "x.parquet").num_rows == 50


# ---------------------------------------------------------------- questions


@pytest.mark.parametrize("kind", ["bare", "empty", "fetched", "scored", "removed"])
def test_every_pool_has_ten_questions_that_run(tmp_path, kind):
    """Whatever a pool has; an empty one answers nothing, without an error."""
    pool = pools.empty_pool(tmp_path / "p", []) if kind == "empty" else pools.synthetic(tmp_path / "p", [8, 5])
    if kind == "fetched":
        pools.add_fetches(pool, 0, ["ok"] * 8 + ["dns"])
    if kind == "scored":
        pools.add_column(pool, "language", languages)
    if kind == "removed":
        pool.remove(pools.uids(0, 8), "test")
    handle = curate.open(str(tmp_path / "p"))
    asked = questions(handle)
    assert len({q.title for q in asked}) == len(asked) == COUNT
    for q in asked:
        answer = handle.sql(q.sql).to_arrow()
        assert answer.num_columns >= 2, q.title
        assert answer.num_rows == 0 or kind != "empty" or "count" in q.sql.lower()


def test_questions_are_about_this_pool(pool):
    handle = curate.open(pool.storage.url)
    titles = [q.title for q in questions(handle)]
    assert titles[0] == "How many samples of each language"
    assert titles[1] == "Which hosts fail most, and how"
    first, fails = (handle.sql(q.sql).fetchall() for q in questions(handle)[:2])
    assert dict(first)["en"] == 20
    assert sum(row[2] for row in fails) == 2
    assert any(t.startswith("Why samples were dropped") for t in titles)


# ---------------------------------------------------------------- completion and statements

COLUMNS = {
    "samples": ["uid", "text", "lang", "error@0123456789ab", "select", "evil\x1b[2J"],
    "fetches": ["uid", "outcome"],
    "picks": ["uid", "dropped_by"],
}


def offered(before: str, after: str = "") -> list[str]:
    completer = SqlCompleter(COLUMNS, [".help", ".format", ".columns"])
    document = Document(before + after, len(before))
    return [c.text for c in completer.get_completions(document, CompleteEvent(completion_requested=True))]


def test_what_is_offered():
    assert offered("SELECT la") == ["lang", "LAST"]
    assert offered("SELECT o", " FROM fetches")[0] == "outcome"
    assert "dropped_by" not in offered("SELECT d", " FROM samples")
    assert offered("SELECT s.te", " FROM samples AS s") == ["text"]
    assert offered("SELECT x.d FROM fetches, picks x WHERE x.dr") == ["dropped_by"]
    assert offered("SELECT err") == ['"error@0123456789ab"']
    assert offered('SELECT "err') == ['"error@0123456789ab"']
    assert '"select"' in offered("SELECT sel", " FROM samples")
    assert offered("FROM fet") == ["fetches"]
    assert offered("SELECT 'la") == []
    assert offered("SELECT 1 -- la") == []
    assert offered(".fo") == [".format"]
    assert offered(".format j") == ["json", "jsonl"]
    assert offered(".columns p") == ["picks"]
    assert not any("\x1b" in text for text in offered("SELECT "))


@given(st.lists(st.sampled_from(["SELECT 1", "'a;b'", "''", '"x;y"', "-- c;\n", "/* ; */", "$$;$$", " ", "\n", ";"])))
def test_statements_end_where_no_quote_or_comment_is(parts):
    expected, current, asks = [], "", False
    for part in parts:
        if part == ";":
            expected += [current] if asks else []
            current, asks = "", False
        else:
            current += part
            asks |= part.strip() != "" and not part.startswith(("--", "/*"))
    assert split("".join(parts)) == (expected, current)
    assert is_complete("".join(parts)) is not asks


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("SELECT '", True), ("SELECT ''", False), ("SELECT '''", True), ("SELECT ''''", False), ("'a''", True),
        ("x --", True), ("x -- \n", False), ("/* a", True), ("/* a */", False), ("/*/", True), ("$$a", True),
        ("$$a$$", False), ('"a', True), ('"a"', False), ("'a' ", False), ("", False),
    ],
)  # fmt: skip
def test_inside_quotes(text, inside):
    assert inside_quotes(text) is inside


def test_first_rows_say_whether_they_are_all(pool):
    handle = curate.open(pool.storage.url)
    for limit, rows, whole in ((50, 50, True), (49, 49, False), (100, 50, True)):
        table, all_of_them = first_rows(handle.sql("FROM samples"), limit)
        assert (table.num_rows, all_of_them) == (rows, whole)
