"""Our side of a download benchmark: take a list of URLs into a pool, as one inline worker does.

`python bench/download_ours.py JOB.json`, with {"list": parquet, "pool": folder, "spec": {...}, "shard_size": n}.
The last line of its output is the counts of outcomes, as JSON.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

from curate.pool.layout import marker  # noqa: E402
from curate.pool.lists import listed, register  # noqa: E402
from curate.pool.pool import Pool  # noqa: E402
from curate.run.fetch.gate.doorman import inline_gates  # noqa: E402
from curate.run.fetch.spec import IngestSpec  # noqa: E402
from curate.run.ingest import ingest_shard  # noqa: E402
from curate.run.sources import open_source  # noqa: E402
from curate.run.sources.spec import SourceSpec  # noqa: E402


def main(job: Path) -> None:
    asked = json.loads(job.read_text())
    spec = IngestSpec(**asked["spec"])
    storage = Pool.create(asked["pool"], spec.pixels(), asked["shard_size"]).storage
    source = open_source(SourceSpec(path=asked["list"], name="web", url="url", text=None))
    claim = register(storage, source, asked["shard_size"])
    gates = inline_gates(spec)
    outcomes: Counter[str] = Counter()
    for shard in claim.numbers:
        if storage.exists(marker(shard)):
            continue
        table = listed(storage, claim, shard)
        made = ingest_shard(storage, table, shard, f"{claim.list}@{claim.hash}", spec, None, gates=gates)
        outcomes.update(made["outcomes"])
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
