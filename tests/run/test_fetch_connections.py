"""Connections are used again, HTTP/2 is spoken where it is offered, and a host is looked up once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import free_port

from curate.run.fetch import resolve
from curate.run.fetch.http import Fetch, download
from curate.run.fetch.spec import IngestSpec
from tests.web import self_signed

SPEC = IngestSpec(
    allow_loopback=True,
    timeout_s=10,
    concurrency=8,
    per_host=8,
    host_rate=None,
    ignore=("robots", "tdm"),
)
APP = """
import asyncio, json

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        return await send({"type": "lifespan.shutdown.complete"})
    await asyncio.sleep(0.05)
    body = json.dumps({"version": scope["http_version"], "port": scope["client"][1]}).encode()
    headers = [(b"content-type", b"image/jpeg"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""


@contextmanager
def hypercorn(folder: Path, more: Sequence[str] = ()) -> Iterator[int]:
    pytest.importorskip("hypercorn", reason="no hypercorn: nobody here speaks HTTP/2 to us")
    (folder / "answering.py").write_text(APP)
    port = free_port()
    command = [sys.executable, "-m", "hypercorn", "answering:app", "--bind", f"127.0.0.1:{port}", *more]
    log = folder / "hypercorn.txt"
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out, start_new_session=True)
    try:
        until = time.monotonic() + 30
        while b"Running on" not in log.read_bytes():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.05)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # its workers, too
        process.wait()


def answers(urls: Sequence[str], spec: IngestSpec) -> list[dict[str, object]]:
    """What the server says of the connection of each request."""
    found: list[Fetch] = []

    async def as_it_is(_: int, fetch: Fetch) -> Fetch:
        return replace(fetch)  # what the shard holds lets its body go

    assert download(dict(enumerate(urls)), spec, as_it_is, lambda _, fetch: found.append(fetch)) == []
    assert [(f.outcome, f.detail) for f in found] == [("ok", None)] * len(urls)
    return [json.loads(f.body or b"") for f in found]


def test_http2_is_spoken_where_it_is_offered_by_one_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = self_signed(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with hypercorn(tmp_path, ["--certfile", str(certificate), "--keyfile", str(key)]) as port:
        said = answers([f"https://127.0.0.1:{port}/{i}" for i in range(24)], SPEC)
    assert {s["version"] for s in said} == {"2"}
    assert len({s["port"] for s in said}) == 1


def test_connections_are_kept_and_no_more_are_made_than_the_host_may_have(tmp_path: Path) -> None:
    with hypercorn(tmp_path) as port:
        urls = [f"http://127.0.0.1:{port}/{i}" for i in range(12)]
        one = answers(urls, SPEC.model_copy(update={"per_host": 1}))
        three = answers(urls, SPEC.model_copy(update={"per_host": 3}))
    assert {s["version"] for s in one} == {"1.1"}
    assert len({s["port"] for s in one}) == 1
    assert len({s["port"] for s in three}) <= 3


def test_a_host_is_looked_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def system(host: str) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    monkeypatch.setattr(resolve, "_system", system)
    with hypercorn(tmp_path) as port:
        answers([f"http://pictures.test:{port}/{i}" for i in range(12)], SPEC)
    assert asked == ["pictures.test"]
