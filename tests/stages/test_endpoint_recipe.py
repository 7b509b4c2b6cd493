"""Captions of a server in a recipe: asked once whatever is killed, mixed, packed, and shown without harm."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("aiohttp", reason="aiohttp is not installed: endpoints are not tested")

from curate.ask.report import write_report
from curate.errors import UserError
from curate.pool.pool import Pool
from stages.endpoint_terms import PROBE
from tests.openai_server import OpenAiServer, started
from tests.person import Person
from tests.stages.test_endpoint_caption import babbler
from tests.tiny import jpeg

ROWS, SHARD = 60, 10
SOURCE = "{{path: {folder}/rows.parquet, url: null}}\nshard_size: 10\ningest: {{resize: none}}"
CAPTIONS = """captions:
  make:
    - endpoint_caption: {{urls: [{url}], model: tiny, name: said, prompt: "Web: {{text}} {{n}}", concurrency: 4,
                          patience_s: {patience}}}
  emit:
    - texts: [{{source: said, p: 1.0}}]
"""


@pytest.fixture
def server() -> Iterator[OpenAiServer]:
    with OpenAiServer(delay_s=0.01) as server:
        yield server


@pytest.fixture
def person(tmp_path: Path) -> Person:
    table = pa.table(
        {
            "image": pa.array([jpeg(row) for row in range(ROWS)], pa.binary()),
            "text": [f"<script>alert({row})</script>" for row in range(ROWS)],
            "n": range(ROWS),
        }
    )
    pq.write_table(table, tmp_path / "rows.parquet")
    return Person(tmp_path)


def parts(person: Person, server: OpenAiServer, below: int, patience: float = 60) -> tuple[str, str, str]:
    """Source, filters and captions of a recipe for the first `below` rows."""
    filters = f'  - where: "n < {below}"\n    on_missing: drop\n'
    return SOURCE.format(folder=person.folder), filters, CAPTIONS.format(url=server.url, patience=patience)


def asked(server: OpenAiServer) -> Counter[int]:
    """Number of the sample -> how often it was asked for."""
    return Counter(int(seen.prompt.split()[-1]) for seen in server.seen)


def test_who_has_a_caption_is_not_asked_for_again(person: Person, server: OpenAiServer) -> None:
    person.run(*parts(person, server, 25))
    assert asked(server) == dict.fromkeys(range(25), 1)
    person.run(*parts(person, server, 25))
    assert len(server.seen) == 25
    server.poison = {' 30"': "400", " 31": "400"}
    person.run(*parts(person, server, 40))
    assert asked(server) == dict.fromkeys(range(40), 1)
    found = person.sql("SELECT * FROM samples WHERE n IN (24, 31, 55) ORDER BY n")
    names = {key.split("@")[0]: key for key in found[0]}
    said = next(key for key in names.values() if key.split("/")[-1].startswith("said"))
    assert [row[said] is None for row in found] == [False, True, True]


def test_a_killed_run_asks_again_for_parts_in_flight_alone(person: Person, server: OpenAiServer) -> None:
    recipe = person.recipe(*parts(person, server, ROWS))
    command = [sys.executable, "-m", "curate.cli", "run", recipe, "--executor", "inline", "--quiet"]
    root = Path(__file__).resolve().parents[2]
    server.delay_s = 0.05
    running = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while len(server.seen) < 2 * SHARD + 5:
        assert running.poll() is None, running.communicate()[0].decode()
        time.sleep(0.01)
    running.kill()
    running.wait()
    before = len(server.seen)
    server.delay_s = 0.0
    person.run(*parts(person, server, ROWS))
    counts = asked(server)
    assert set(counts) == set(range(ROWS))
    assert before < ROWS
    assert sum(counts.values()) - ROWS <= SHARD  # one shard was in hand: it is one part
    assert max(counts.values()) <= 2


def test_a_service_that_is_gone_leaves_no_failed_samples(person: Person, server: OpenAiServer) -> None:
    server.poison = {f" {n}": "503" for n in range(SHARD, ROWS)}
    with pytest.raises(UserError):
        person.run(*parts(person, server, ROWS, patience=0.3))
    server.poison = {}
    person.run(*parts(person, server, ROWS))
    assert asked(server).keys() == set(range(ROWS))
    assert all(asked(server)[n] == 1 for n in range(SHARD - 1))


@pytest.mark.slow
def test_a_run_outlives_its_server(person: Person, tmp_path: Path) -> None:
    """A real model in a process of its own, which says 429, breaks off, is slow, is killed and comes back."""
    log = tmp_path / "asked.txt"
    faults = ",".join(("429", "malformed", "", "drop", "truncated", "500", "", "slow", "") * 2)
    server = ["--model", babbler(tmp_path / "model"), "--delay", "0.05", "--log", str(log), "--faults", faults]
    process, port = started(*server)
    source, filters, captions = parts(person, OpenAiServer(port=port), ROWS, patience=300)
    captions = captions.replace("concurrency: 4", "concurrency: 4, max_tokens: 8, deadline_s: 4, tries: 20")
    try:
        with ThreadPoolExecutor(1) as threads:
            running = threads.submit(person.run, source, filters, captions)
            while len(noted(log)) < 40 and not running.done():
                time.sleep(0.01)
            process.kill()
            process.wait()
            time.sleep(1)
            assert not running.done()
            process, _ = started(*server, port=port)
            running.result(240)
    finally:
        process.kill()
        process.wait()
    good = Counter(int(prompt.split()[-1]) for fault, prompt in noted(log) if not fault and prompt != PROBE)
    assert set(good) == set(range(ROWS))
    assert sum(good.values()) <= ROWS + 4  # what was being answered when it was killed
    met = Counter(fault for fault, _ in noted(log))
    assert met["429"] > 2, "the second server was asked, too"
    assert all(met[fault] for fault in faults.split(","))
    told = person.sql("SELECT said, said_completion_tokens AS tokens FROM samples")
    assert len(told) == ROWS
    assert all(row["said"] and 0 < row["tokens"] <= 8 for row in told)


def noted(log: Path) -> list[tuple[str, str]]:
    """(fault, prompt) of each request that a server process got."""
    lines = log.read_text().split("\n")[:-1] if log.exists() else []
    return [(fault, prompt) for fault, prompt in map(json.loads, lines)]


def test_what_a_hostile_server_says_does_no_harm(person: Person, server: OpenAiServer) -> None:
    server.talk = lambda body: ("\x1b[2J</p><script>alert(1)</script>\u202e a dog", 5, 6)
    outcome, _ = person.run(*parts(person, server, 20), pack=True)
    assert all("‹script›" in seen.prompt and "<script>" not in seen.prompt for seen in server.seen)
    clean = "[2J</p><script>alert(1)</script> a dog"
    (tar,) = (Path(person.pool) / "packs").rglob("*.tar")
    with tarfile.open(tar) as pack:
        texts = {pack.extractfile(m).read().decode() for m in pack if m.name.endswith(".txt")}  # type: ignore[union-attr]
        about = [json.load(pack.extractfile(m)) for m in pack if m.name.endswith(".json")]  # type: ignore[arg-type]
    assert texts == {clean}
    assert len(about) == 20
    page = person.folder / "report.html"
    write_report(Pool.open(person.pool), outcome.pick, page)
    shown = page.read_text()
    assert "[2J&lt;/p&gt;&lt;script&gt;alert(1)&lt;/script&gt; a dog" in shown, "what goes into training stands there"
    assert "&lt;script&gt;alert(7)" in shown, "and the web's text"
    assert "<script>alert" not in shown
