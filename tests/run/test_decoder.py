"""Decoders may crash, hang or run out of memory: one sample is lost, the others are not, and nothing stays behind."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
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
ONE = SPEC.model_copy(update={"decoders": 1})


async def all_of(pool: Decoders, images: list[bytes]) -> list[Examined]:
    return list(await asyncio.gather(*(pool.examine(data, None, SPEC) for data in images)))


@pytest.fixture(autouse=True)
def _no_decoders_of_others() -> None:
    """Tests before may have left some on purpose: they stay from shard to shard."""
    if hasattr(decoder._here, "own"):
        decoder._here.own.pool.close()


def noise(side: int) -> bytes:
    """A PNG of some megabytes."""
    out = io.BytesIO()
    Image.frombytes("RGB", (side, side), os.urandom(3 * side * side)).save(out, "PNG", compress_level=0)
    return out.getvalue()


def plain(side: int) -> bytes:
    """A PNG of few bytes, which takes long to decode."""
    out = io.BytesIO()
    Image.new("RGB", (side, side)).save(out, "PNG")
    return out.getvalue()


def below() -> list[psutil.Process]:
    return [p for p in psutil.Process().children() if "decoder_child" in " ".join(words_of(p))]


def all_gone() -> bool:
    """What was killed may take a moment to die."""
    until = time.monotonic() + 10
    while below() and time.monotonic() < until:
        time.sleep(0.01)
    return not below()


def words_of(process: psutil.Process) -> list[str]:
    """Its command line; of one that has ended, none."""
    try:
        return process.cmdline()
    except (psutil.ZombieProcess, psutil.NoSuchProcess):
        return []


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
    """A decoder dies in mid-work: what it works on is lost, with its cause; what it has besides is done by the next."""
    pool = Decoders(ONE)

    async def work() -> list[Examined]:
        await pool.examine(jpeg(0), None, ONE)
        child = below()[0]
        tasks = [asyncio.create_task(pool.examine(d, None, ONE)) for d in (plain(9000), jpeg(1), jpeg(2))]
        before = child.cpu_times().user
        while child.cpu_times().user < before + 0.1:  # it is idle but for the first of these
            await asyncio.sleep(0.01)
        child.send_signal(signal.SIGSEGV)
        return [await t for t in tasks]

    try:
        crashed, *others = asyncio.run(work())
    finally:
        pool.close()
    assert (crashed.outcome, crashed.detail) == ("decode_error", "the decoder crashed: SIGSEGV")
    assert others == [examine(jpeg(1), None, ONE), examine(jpeg(2), None, ONE)]


@pytest.mark.parametrize("large", [False, True])
def test_a_decoder_that_died_while_idle_costs_nothing(large: bool) -> None:
    pool = Decoders(ONE)
    image = noise(1200) if large else jpeg(1)

    async def work() -> Examined:
        await pool.examine(jpeg(0), None, ONE)
        child = below()[0]
        child.kill()
        while child.status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(0.01)
        return await pool.examine(image, None, ONE)

    try:
        assert asyncio.run(work()) == examine(image, None, ONE)
    finally:
        pool.close()


def test_many_that_died_while_idle_cost_nothing_either() -> None:
    """The kernel ends them with the thread that started them: that of a notebook's loop, which lasts for a call."""
    spec = SPEC.model_copy(update={"decoders": 4})
    pool = Decoders(spec)
    images = [jpeg(i) for i in range(8)]
    try:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(lambda: asyncio.run(all_of(pool, images))).result()
            assert len(below()) == 4
        assert all_gone()
        assert asyncio.run(all_of(pool, images)) == [examine(d, None, SPEC) for d in images]
    finally:
        pool.close()


def test_an_image_that_no_decoder_can_take_in_is_lost_in_the_end() -> None:
    """Each is gone before it has the image whole, so that none of them tells whose fault it is."""
    spec = ONE.model_copy(update={"decode_memory_gb": 0.001, "phash": False})
    pool = Decoders(spec)
    try:
        found = asyncio.run(asyncio.wait_for(pool.examine(noise(2000), None, spec), 60))
    finally:
        pool.close()
    assert (found.outcome, found.detail) == ("decode_error", "the decoder ended with status 1")


def starting_with(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Python that is started from now on runs this first; `starts` is how many did before it."""
    lines = ["import os, signal, sys, time", f"log = {str(folder / 'starts')!r}"]
    lines += ["starts = os.path.getsize(log) if os.path.exists(log) else 0", "open(log, 'a').write('.')", code]
    (folder / "sitecustomize.py").write_text("\n".join(lines))
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])


def starts(folder: Path) -> int:
    return (folder / "starts").stat().st_size


def test_decoders_that_do_not_come_up_are_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    starting_with("if starts < 2: os.kill(os.getpid(), signal.SIGILL)", tmp_path, monkeypatch)
    pool = Decoders(ONE)
    images = [jpeg(1), jpeg(2), jpeg(3)]
    try:
        assert asyncio.run(all_of(pool, images)) == [examine(d, None, SPEC) for d in images]
    finally:
        pool.close()
    assert starts(tmp_path) == 3


def test_no_decoder_that_comes_up_is_an_error_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a signal, as where the processor lacks an instruction; with the end of what it printed, however much."""
    code = "print('x' * 300_000, 'no AVX2 here', file=sys.stderr, flush=True); os.kill(os.getpid(), signal.SIGILL)"
    starting_with(code, tmp_path, monkeypatch)
    pool = Decoders(ONE)
    try:
        with pytest.raises(RuntimeError) as caught:
            asyncio.run(pool.examine(jpeg(0), None, ONE))
        assert starts(tmp_path) == 3
    finally:
        pool.close()
    words = str(caught.value)
    assert words.startswith("3 decoders in a row did not come up: the last crashed: SIGILL\nxxx")
    assert words.endswith("no AVX2 here")
    assert len(words) < 2200


def test_decoders_that_are_never_up_are_an_error_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "START_S", 0.5)
    starting_with("time.sleep(60)", tmp_path, monkeypatch)
    pool = Decoders(ONE)
    try:
        with pytest.raises(RuntimeError, match=r"the last was ended: not up in 0\.5 s\nit printed nothing"):
            asyncio.run(pool.examine(jpeg(0), None, ONE))
        assert all_gone()
    finally:
        pool.close()


def test_no_more_processes_is_an_error_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", no_more)

    async def work() -> Examined:
        return await asyncio.wait_for(Decoders(ONE).examine(jpeg(0), None, ONE), 5)

    with pytest.raises(BlockingIOError):
        asyncio.run(work())


def test_the_loop_goes_on_while_one_takes_long_to_be_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "END_S", 0.5)
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])

    async def work() -> tuple[str, int]:
        ending, turns = asyncio.create_task(decoder._end_of(process)), 0
        while not ending.done():
            await asyncio.sleep(0.01)
            turns += 1
        return ending.result(), turns

    try:
        how, turns = asyncio.run(work())
    finally:
        process.kill()
        process.wait()
    assert how == "closed its connection"
    assert turns > 10


def test_decoders_end_with_their_thread() -> None:
    """Those of another thread stay; no socket is left of those that went."""

    def work() -> list[int]:
        asyncio.run(decoder.decoders(ONE).examine(jpeg(0), None, ONE))
        return [p.pid for p in below()]

    kept = work()
    files = psutil.Process().num_fds()
    with ThreadPoolExecutor(1) as thread:
        both = thread.submit(work).result()
        assert len(both) == 2
        assert kept[0] in both
    until = time.monotonic() + 10
    while len(below()) > 1 and time.monotonic() < until:
        time.sleep(0.01)
    assert [p.pid for p in below()] == kept
    assert psutil.Process().num_fds() <= files
    assert decoder.decoders(ONE).ahead == 2
    assert work() == kept, "the same, for the same limits"


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
    spec = SPEC.model_copy(update={"decoders": 1, "decode_memory_gb": 0.3})
    pool = Decoders(spec)
    try:
        large, small = asyncio.run(all_of(pool, [plain(9000), jpeg(1)]))
    finally:
        pool.close()
    assert large.outcome == "decode_error"
    assert small.outcome == "ok"


def test_decoders_end_with_their_process(tmp_path: Path) -> None:
    """Also where it is killed, and so cannot say goodbye."""
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
