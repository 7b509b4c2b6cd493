"""A stage that a benchmark can count: a captioner that notes in a file whom it was asked about.

captions:
  make:
    - captions_stages:Counted: {log: /tmp/asked.txt, each_ms: 2}
"""

from __future__ import annotations

import os
import time
from typing import ClassVar

import pyarrow as pa

from stages.base import IMAGE, TEXT, UID, Batch, Column, Stage


class Counted(Stage):
    """`counted`: words on the picture's bytes, after `each_ms` of waiting; each uid asked about goes to the log first.

    The log is appended to by one write a batch, so that a killed worker's samples stand in it too.
    """

    sparse: ClassVar[bool] = True

    log: str
    each_ms: float = 2.0

    def reads(self) -> tuple[Column, ...]:
        return (IMAGE, TEXT, UID)

    def writes(self) -> pa.Schema:
        return pa.schema([("counted", pa.string())])

    def run(self, batch: Batch) -> pa.Table:
        asked = "".join(f"{uid.hex()}\n" for uid in batch[UID].to_pylist())
        log = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(log, asked.encode())
        finally:
            os.close(log)
        said = []
        for row in range(batch.num_rows):
            time.sleep(self.each_ms / 1000)
            said.append(f"a picture of {len(batch.image_bytes(row))} bytes")
        return pa.table({"counted": pa.array(said, pa.string())})
