"""Decoders may crash, hang or run out of memory: one sample is lost, the others are not, and nothing stays behind."""

from __future__ import annotations

import asyncio
import io
import os
import signal
from pathlib import Path

import psutil
import pytest
from PIL import Image

from curate.run.fetch import decoder
from curate.run.fetch.decoder import Decoders
from curate.run.fetch.examine import Examined, examine
from curate.run.fetch.spec import IngestSpec
from tests.tiny import jpeg

SPEC = IngestSpec(allow_loopback=True, decoders=2)


async def all_of(pool: Decoders, images: list[bytes]) -> list[Examined]:
    return list(await asyncio.gather(*(pool.examine(data, None, SPEC) for data in images)))


@pytest.fixture(autouse=True)
def _no_decoders_of_others() -> None:
    """Tests before may have left some on purpose: they stay from shard to shard."""
    for pool in list(decoder._pools.values()):
        pool.close()
    decoder._pools.clear()


def noise(side: int) -> bytes:
    """A PNG of some megabytes."""
    out = io.BytesIO()
    Image.frombytes("RGB", (side, side), os.urandom(3 * side * side)).save(out, "PNG", compress_level=0)
    return out.getvalue()


def below() -> list[psutil.Process]:
    return [p for p in psutil.Process().children() if "decoder_child" in " ".join(p.cmdline())]


def test_answers_are_those_of_examine_and_decoders_outlive_loops() -> None:
    images = [jpeg(i, 90) for i in range(30)] + [b"<html>", b""]
    pool = Decoders(SPEC)
    try:
        assert asyncio.run(all_of(pool, images)) == [examine(data, None, SPEC) for data in images]
        first = {p.pid for p in below()}
        assert asyncio.run(all_of(pool, images[:3])) == [examine(data, None, SPEC) for data in images[:3]]
        assert {p.pid for p in below()} == first
    finally:
        pool.close()
    assert not below()


def test_a_crash_costs_one_sample() -> None:
    """A decoder is killed in mid-work: at most what it worked on is lost, with its cause; the rest comes."""
    images = [jpeg(i, 900) for i in range(24)]
    pool = Decoders(SPEC)

    async def work() -> list[Examined]:
        tasks = [asyncio.create_task(pool.examine(data, None, SPEC)) for data in images]
        await tasks[3]
        os.kill(below()[0].pid, signal.SIGSEGV)
        return [await t for t in tasks]

    try:
        found = asyncio.run(work())
    finally:
        pool.close()
    lost = [f for f in found if f.outcome != "ok"]
    assert [(f.outcome, f.detail) for f in lost] in ([], [("decode_error", "the decoder crashed: SIGSEGV")])
    assert [f for f in found if f.outcome == "ok"] == [
        e for e, f in zip((examine(d, None, SPEC) for d in images), found, strict=True) if f.outcome == "ok"
    ]


def test_a_hang_is_ended_and_the_one_behind_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = SPEC.model_copy(update={"decoders": 1, "decode_timeout_s": 1.0})
    pool = Decoders(spec)

    async def work() -> list[Examined]:
        await pool.examine(jpeg(0), None, spec)
        os.kill(below()[0].pid, signal.SIGSTOP)
        return await all_of(pool, [jpeg(1), jpeg(2)])

    try:
        hung, behind = asyncio.run(work())
    finally:
        pool.close()
    assert (hung.outcome, hung.detail) == ("decode_error", "the decoder was ended: not done in 1 s")
    assert behind.outcome == "ok"


def test_a_hang_before_a_large_image_is_ended_too() -> None:
    """The second image does not fit into the socket: sending it has the same limit."""
    spec = SPEC.model_copy(update={"decoders": 1, "decode_timeout_s": 1.0})
    pool = Decoders(spec)

    async def work() -> list[Examined]:
        await pool.examine(jpeg(0), None, spec)
        os.kill(below()[0].pid, signal.SIGSTOP)
        return await all_of(pool, [jpeg(1), noise(1200)])

    try:
        hung, behind = asyncio.run(work())
    finally:
        pool.close()
    assert (hung.outcome, behind.outcome) == ("decode_error", "ok")


def test_large_images_both_ways_do_not_block_each_other() -> None:
    """Kept as they came: while an answer of megabytes is written, the next image of megabytes is being sent."""
    spec = SPEC.model_copy(update={"decoders": 1, "resize": "none", "format": "png", "phash": False})
    images = [noise(1100 + i) for i in range(5)]
    pool = Decoders(spec)

    async def work() -> list[Examined]:
        return list(await asyncio.gather(*(pool.examine(data, None, spec) for data in images)))

    try:
        found = asyncio.run(asyncio.wait_for(work(), 60))
    finally:
        pool.close()
    assert [f.stored for f in found] == images


def test_too_little_memory_is_an_outcome_and_the_next_is_done() -> None:
    out = io.BytesIO()
    Image.new("RGB", (9000, 9000)).save(out, "PNG")
    spec = SPEC.model_copy(update={"decoders": 1, "decode_memory_gb": 0.3})
    pool = Decoders(spec)
    try:
        large, small = asyncio.run(all_of(pool, [out.getvalue(), jpeg(1)]))
    finally:
        pool.close()
    assert large.outcome == "decode_error"
    assert small.outcome == "ok"


def test_decoders_end_with_their_process(tmp_path: Path) -> None:
    """Also where it is killed, and so cannot say goodbye."""
    import subprocess
    import sys

    code = (
        "import asyncio, os, psutil, signal\n"
        "from tests.run.test_decoder import Decoders, SPEC, jpeg\n"
        "asyncio.run(Decoders(SPEC).examine(jpeg(0), None, SPEC))\n"
        "print(psutil.Process().children()[0].pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    pid = int(done.stdout)
    if psutil.pid_exists(pid):
        psutil.Process(pid).wait(10)
