"""`host`, computed from urls where no column has that name; folders that killed sessions leave."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import curate
from curate.ask import scratch
from curate.ask.scratch import LOCK, own_folder
from curate.ask.views import host_of
from tests import pools
from tests.ask.terminal import ROOT


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://Upload.Wikimedia.org/a/b.jpg", "upload.wikimedia.org"),
        ("http://user:pass@Host.example:8080/x", "host.example"),
        ("http://a@b@c/", "c"),
        ("HTTP://[2001:DB8::1]:80/a", "[2001:db8::1]"),
        ("http://x.com?y=http://other/", "x.com"),
        ("http://x.com#@other", "x.com"),
        ("http://bücher.example/", "bücher.example"),
        ("http:///a", None),
        ("//x.com/a", None),
        ("no url", None),
        ("", None),
        (None, None),
    ],
)
def test_the_host_of_a_url(url, host):
    import duckdb

    found = duckdb.connect().execute(f"SELECT {host_of('url')} FROM (SELECT CAST(? AS VARCHAR) AS url)", [url])
    assert found.fetchall() == [(host,)]


@settings(max_examples=100, deadline=None)
@given(
    scheme=st.sampled_from(["http", "HTTPS", "ftp"]),
    user=st.sampled_from(["", "me@", "me:secret@"]),
    host=st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9.-]{0,20}[a-zA-Z0-9])?", fullmatch=True),
    port=st.sampled_from(["", ":80", ":"]),
    rest=st.sampled_from(["", "/", "/a@b:c", "?q=http://x/", "#f@g", "/é"]),
)
def test_hosts_agree_with_urllib(scheme, user, host, port, rest):
    import duckdb

    url = f"{scheme}://{user}{host}{port}{rest}"
    found = duckdb.connect().execute(f"SELECT {host_of('url')} FROM (SELECT ? AS url)", [url]).fetchall()
    assert found == [(urlsplit(url).hostname,)]


def test_samples_and_fetches_have_a_host(tmp_path):
    pool = pools.synthetic(tmp_path / "pool", [3, 2])
    pools.add_fetches(pool, 0, ["ok", "ok", "ok", "dns"])
    handle = curate.open(str(tmp_path / "pool"))
    views = handle.views()
    assert (views["samples"]["host"], views["fetches"]["host"]) == ("VARCHAR", "VARCHAR")
    urls = dict(handle.sql("SELECT uid, url FROM samples").fetchall())
    assert dict(handle.sql("SELECT uid, host FROM samples").fetchall()) == {
        uid: urlsplit(url).hostname for uid, url in urls.items()
    }
    grouped = handle.sql("SELECT host, outcome, count(*) AS n FROM fetches GROUP BY ALL").fetchall()
    assert sum(n for *_, n in grouped) == 4
    assert {outcome for _, outcome, _ in grouped} == {"ok", "dns"}
    pool.remove(pools.uids(0, 3), "test")
    assert curate.open(str(tmp_path / "pool")).sql("SELECT count(host) FROM samples").fetchall() == [(2,)]


def test_an_input_that_brings_its_own_host_keeps_it(tmp_path):
    pool = pools.synthetic(tmp_path / "pool", [3])
    pools.add_column(pool, "mine", lambda s, u: pa.table({"Host": ["a", "b", "c"]}))
    handle = curate.open(str(tmp_path / "pool"))
    assert handle.sql("SELECT host FROM samples").fetchall() == [("a",), ("b",), ("c",)]
    assert [n for n in handle.views()["samples"] if n.lower() == "host"] == ["Host"]


def test_it_is_computed_only_where_it_is_named(tmp_path):
    pools.synthetic(tmp_path / "pool", [3])
    views = curate.open(str(tmp_path / "pool")).known
    assert "regexp_extract" not in views.sql("samples", frozenset({"samples", "width"}))
    assert "regexp_extract" in views.sql("samples", frozenset({"samples", "host"}))


# ---------------------------------------------------------------- what killed sessions leave

SESSION = """
import sys, curate
from pathlib import Path
from curate.ask.scratch import own_folder
class Owner: pass
owner = Owner()
folder = own_folder(Path(sys.argv[1]), "sql-", owner)
(folder / "spill").write_bytes(b"x" * 1000)
print(folder, flush=True)
sys.stdin.read()
"""


def session(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", SESSION, str(parent)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


class Owner:
    """Something that a folder lives as long as."""


def test_a_killed_session_is_cleared_up_after_and_a_living_one_is_not(tmp_path):
    killed, left = session(tmp_path)
    living, used = session(tmp_path)
    try:
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait(timeout=20)
        assert left.exists()
        owner = Owner()
        mine = own_folder(tmp_path, "sql-", owner)
        assert not left.exists()
        assert (used / "spill").exists()
        assert mine.exists()
        del owner
        gc.collect()
        assert not mine.exists()
    finally:
        living.communicate("", timeout=20)
    assert not used.exists()  # an ordinary end clears up after itself


def test_what_is_not_surely_left_stays(tmp_path, monkeypatch):
    """A folder without a lock while it is young, a link, another prefix, a file."""
    young, other = tmp_path / "sql-young", tmp_path / "other"
    young.mkdir()
    other.mkdir()
    (tmp_path / "sql-link").symlink_to(other)
    (tmp_path / "sql-file").write_text("x")
    (other / LOCK).touch()
    owner = Owner()
    own_folder(tmp_path, "sql-", owner)
    assert young.exists()
    assert other.exists()
    monkeypatch.setattr(scratch, "YOUNG_S", -1.0)
    time.sleep(0.01)
    own_folder(tmp_path, "sql-", owner)
    assert not young.exists()
    assert other.exists()
    assert (tmp_path / "sql-file").exists()
