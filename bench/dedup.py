"""The bars of deduplication: `python bench/dedup.py [--quick] [--only NAME,...]`.

A table for people and, last, one JSON line. A full run measures every bar and is kept in bench/dedup.json, where
`--only` replaces the bars that it measures again; `--quick` takes smaller sizes, null for what it does not measure.
`python bench/dedup_photos.py` alone prints what becomes of each transform, `python bench/dedup_billion.py` writes
docs/dedup-billion.md. On a GPU: bench/dedup_gpu.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from parts import run  # noqa: E402

PARTS = {
    "hamming": ("dedup_hamming", True),
    "components": ("dedup_components", True),
    "engine": ("dedup_engine", True),
    "bands": ("dedup_bands", True),
    "photos": ("dedup_photos", True),
    "vectors": ("dedup_vectors", True),
    "gpu": ("dedup_gpu", True),
    "crash": ("dedup_crash", True),
    "billion": ("dedup_billion", True),
}
TESTS = {
    "order_shards_and_buckets_change_nothing": [
        "tests/stages/test_near_hashes.py", "tests/stages/test_near_hashes_verify.py",
        "tests/stages/test_near_vectors.py", "tests/stages/test_hash_groups.py", "tests/filters/test_keep_one.py",
    ],
    "keep_rules": [
        "tests/filters/test_keep_rules.py", "tests/filters/test_keep_one_vectors.py",
        "tests/filters/test_keep_one_large.py", "tests/filters/test_semdedup.py",
    ],
    "growing_equals_one_run": [
        "tests/stages/test_near_growth.py", "tests/filters/test_keep_one_growth.py", "tests/stages/test_eval_growth.py",
    ],
    "decontamination_finds_every_easy_transform": [
        "tests/filters/test_decontaminate.py", "tests/stages/test_eval_matches.py",
    ],
    "retrieval": ["tests/filters/test_retrieve.py"],
    "report": ["tests/ask/test_report_pairs.py"],
    "real_photos": ["tests/real/test_dedup_photos.py", "tests/real/test_decontaminate.py"],
}  # fmt: skip

if __name__ == "__main__":
    run(__doc__, "dedup", PARTS, TESTS)
