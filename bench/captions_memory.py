"""Does the memory of asking a server stay bounded? A million small pictures through the endpoint stage.

    python bench/captions_memory.py [--quick]         # also a part of bench/captions.py

The stage is given batches as a run gives them, prepared ahead, and their answers are dropped, as a run drops them once
they are written. What counts is how far the peak lies above what was held after the first twentieth. The server
answers at once, from a process of its own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import psutil
import pyarrow as pa
from captions_server import Server
from common import WORK, Bar, at_most, bar, finish

from curate.run.reader import BATCH
from stages.base import UID, Batch, fact
from stages.clip_ahead import Ahead
from stages.endpoint_caption import EndpointCaption

SMALL = b"\xff\xd8\xff" + bytes(2000)  # begins as a JPEG does; the server does not look
LIMIT_MB = 64


def batches(rows: int) -> Iterator[Batch]:
    """Rows with a uid, a text and a picture of their own."""
    for start in range(0, rows, BATCH):
        count = min(BATCH, rows - start)
        numbers = range(start, start + count)
        uid = pa.array([number.to_bytes(16, "big") for number in numbers], pa.binary(16))
        text = pa.array([f"picture {number} of the web, a caption as it comes" for number in numbers], pa.string())
        yield Batch({UID: uid, fact("text"): text}, count, partial(picture, start))


def picture(start: int, row: int) -> bytes:
    """Of a row of the batch that begins there: no two are alike."""
    return SMALL + (start + row).to_bytes(8, "big")


def measure(quick: bool) -> dict[str, Bar]:
    """quick: 20,000 of them; no bar."""
    rows = 20_000 if quick else 1_000_000
    me, first, most, done = psutil.Process(), 0, 0, 0
    began = time.monotonic()
    with Server(places=10_000, answer_s=0) as server:
        stage = EndpointCaption(urls=(server.url,), model="any", prompt="Say it again: {text}", concurrency=128)
        stage.open()
        for batch in Ahead(batches(rows), stage.prepare, threads=1):
            table = stage.run(batch)
            done += table.column("error").null_count
            held = me.memory_info().rss
            most = max(most, held)
            if not first and done >= rows // 20:
                first = most = held
        stage.client().close()
    seconds, grown = time.monotonic() - began, (most - first) / 2**20
    print(f"{done:,} of {rows:,} captions in {seconds:.0f} s; {first / 2**20:.0f} MB held, {grown:.1f} MB more at most")
    return {
        "endpoint_memory_growth_mb": bar(round(grown, 1), LIMIT_MB, None) if quick else at_most(grown, LIMIT_MB, 1),
        "endpoint_samples_captioned": bar(done, rows, done == rows),
        "endpoint_samples_per_s": bar(round(done / seconds), None, None),
    }


if __name__ == "__main__":
    WORK.mkdir(parents=True, exist_ok=True)
    finish(measure("--quick" in sys.argv), None)
