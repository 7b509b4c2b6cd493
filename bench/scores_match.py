"""Matching of 500,000 entries beside pyahocorasick, what a worker pays for them, and balancing of ten million captions.

    python bench/scores_match.py [--quick]        # also a part of bench/scores.py

Method: a hash table of words and a prefix tree over their numbers (stages/entry_matcher.py). Entries are sequences of
whole words, so a text costs a look-up a word and one a step in the tree, where an automaton over characters costs one a
byte, most of them far apart in memory. pyahocorasick gets the space-padded entries, and its time has the padding of the
text in it, as ours has. Balancing runs its phases over files, in a process of its own, whose memory counts.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from common import NOT_MEASURED, SHARED, WORK, Bar, alternated, at_least, at_most, bar, environment, finish, fresh

from stages.entry_matcher import Matcher, open_matcher

ENTRIES = 500_000
BATCH = 256
SHARD = 10_000
T = 20_000
MARKS = (",", ".", ";", ":", "?", "!", "`")


def measure(quick: bool) -> dict[str, Bar]:
    """Captions per CPU-second over pyahocorasick's, equality, start of a worker, memory of balancing."""
    texts = captions()
    path = metadata(texts)
    bars = speed(path, (texts * 8)[: 20_000 if quick else 100_000], 1 if quick else 5)
    bars |= worker(path)
    bars |= balancing(path, 200_000 if quick else 1_000_000, None if quick else 10_000_000)
    return bars


# ---------------------------------------------------------------------------------------------- captions and entries


def captions() -> list[str]:
    """Alt-texts of the web and captions, real ones where they are, else words by rank."""
    if SHARED.is_dir():
        found: list[str | None] = []
        for name, column in (("laion_urls_10k", "text"), ("cc3m_validation", "caption")):
            file = pq.ParquetFile(SHARED / "text" / f"{name}.parquet")
            there = [n for n in file.schema_arrow.names if n.lower() in (column, "caption", "text")]
            found += file.read(columns=there[:1]).column(0).to_pylist()
        return [t for t in found if t]
    rng = np.random.default_rng(0)
    ranks = rng.zipf(1.2, (20_000, 10)) % 50_000
    return [" ".join(f"w{r}" for r in row) for row in ranks.tolist()]


def metadata(texts: list[str]) -> str:
    """A list of 500,000 entries: words and runs of two and three words of the texts, and words near to those."""
    path = WORK / "entries.json"
    if path.exists():
        return str(path)
    rng, words = random.Random(0), " ".join(texts).split()
    found: set[str] = set()
    while len(found) < ENTRIES:
        at, length = rng.randrange(len(words) - 3), rng.choice((1, 1, 2, 2, 2, 3))
        if length == 1:
            found.add(words[at] + rng.choice(("", *"abcdefghijklmnop")) + rng.choice(("", *"abcdefghijklmnop")))
        else:
            found.add(" ".join([*words[at : at + length - 1], rng.choice(words)]))
    WORK.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(sorted(found)))
    return str(path)


def norm(text: str) -> str:
    padded = f" {text} "
    for mark in MARKS:
        padded = padded.replace(mark, f" {mark} ")
    for blank in "\t\n\r":
        padded = padded.replace(blank, " ")
    return padded


# ---------------------------------------------------------------------------------------------- speed


def speed(path: str, texts: list[str], passes: int) -> dict[str, Bar]:
    try:
        import ahocorasick
    except ImportError:
        print("pyahocorasick is not installed: pip install pyahocorasick")
        return {"match_over_pyahocorasick": NOT_MEASURED, "match_same_sets": NOT_MEASURED}
    automaton = ahocorasick.Automaton()
    for number, entry in enumerate(json.loads(Path(path).read_text())):
        automaton.add_word(f" {entry} ", number)
    automaton.make_automaton()
    matcher, column = open_matcher(path), pa.array(texts)

    def ours(_: int) -> float:
        began = time.process_time()
        for start in range(0, len(texts), BATCH):
            matcher.match(column.slice(start, BATCH))
        return len(texts) / (time.process_time() - began)

    def theirs(_: int) -> float:
        began = time.process_time()
        for text in texts:
            {number for _, number in automaton.iter(norm(text))}
        return len(texts) / (time.process_time() - began)

    rates = alternated({"ours": ours, "theirs": theirs}, passes)
    print(f"captions per CPU-second: ours {rates['ours']:.0f}, pyahocorasick {rates['theirs']:.0f}")
    asked = [*texts, *odd_texts(20_000)]
    expected = [sorted({n for _, n in automaton.iter(norm(text))}) for text in asked]
    different = sum(a != b for a, b in zip(matcher.match(pa.array(asked)).to_pylist(), expected, strict=True))
    return {
        "match_over_pyahocorasick": at_least(rates["ours"] / rates["theirs"], 3.0),
        "match_same_sets": bar(f"{different} of {len(asked)} differ", "none", different == 0),
    }


def odd_texts(count: int) -> list[str]:
    """Random characters of all planes, marks and white space among letters."""
    rng = random.Random(1)
    planes = [(0x20, 0x7E), (0x20, 0x7E), (0xA0, 0x24F), (0x3040, 0x30FF), (0x4E00, 0x9FFF), (0x1F300, 0x1FAFF)]

    def character() -> str:
        return (
            rng.choice((" ", "\t", "\n", *MARKS, "a", "I"))
            if rng.random() < 0.5
            else chr(rng.randint(*rng.choice(planes)))
        )

    return ["".join(character() for _ in range(rng.randrange(60))) for _ in range(count)]


# ---------------------------------------------------------------------------------------------- a worker

WORKER = """
import sys, time
import numpy, pyarrow, pydantic
from stages.base import Batch
import stages.metaclip_match as m
def kilobytes(name):
    return int(next(l for l in open("/proc/self/status") if l.startswith(name)).split()[1])
before, began = kilobytes("VmRSS"), time.perf_counter()
stage = m.MetaclipMatch(metadata=sys.argv[1])
stage.open()
stage.run(Batch.of(pyarrow.table({"text": ["a photo of a dog"]})))
print(time.perf_counter() - began, (kilobytes("VmHWM") - before) / 1024)
"""


def worker(path: str) -> dict[str, Bar]:
    """Seconds and megabytes, at their peak, until a fresh process has matched its first text (kernels in the cache)."""
    lines = [
        subprocess.run(
            [sys.executable, "-c", WORKER, path], capture_output=True, text=True, check=True, env=environment()
        )
        for _ in range(4)
    ]
    found = [tuple(map(float, line.stdout.split())) for line in lines[1:]]  # the first may compile
    return {
        "match_ready_s": at_most(float(np.median([s for s, _ in found])), 5.0, 2),
        "match_memory_mb": at_most(max(mb for _, mb in found), 300.0, 0),
    }


# ---------------------------------------------------------------------------------------------- balancing


def balancing(path: str, fewer: int, more: int | None) -> dict[str, Bar]:
    """Peak memory of balancing, over what the process has at its start; ten times the captions take no more.

    How many entries have a counter is a bar of its own, since memory of few would say nothing: a tenth of the list
    holds a mark, so that nothing matches it.
    """
    small, some = peak(path, fewer)
    name = "balance_10m_captions_memory_mb"
    if more is None:
        few = {"balance_memory_growth": NOT_MEASURED, "balance_entries_matched": bar(round(some, 2), 0.85, None)}
        return {name: bar(round(small), 256, None)} | few
    large, all_but = peak(path, more)
    print(f"balancing: {fewer} captions {small:.0f} MB, {more} captions {large:.0f} MB")
    return {
        name: at_most(large, 256.0, 0),
        "balance_memory_growth": at_most(large / small, 1.25, 2),
        "balance_entries_matched": at_least(all_but, 0.85),
    }


def peak(path: str, rows: int) -> tuple[float, float]:
    """(megabytes, share of the entries that a caption has)."""
    folder = fresh(f"balance-{rows}")
    for _ in shards(folder, path, rows):
        pass
    command = [sys.executable, __file__, "--balance", str(folder), "--entries", path]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    print(done.stdout.strip().splitlines()[-1])
    told = json.loads(done.stdout.strip().splitlines()[-1])
    return float(told["peak_mb"]), told["matched_entries"] / told["entries"]


def shards(folder: Path, path: str, rows: int) -> Iterator[Path]:
    """uid and match_ids on disk, as a pool has them, of captions of 4 to 12 entries, drawn from all by Zipf's law.

    The n-th of the list, shuffled, has a chance of 1 / n: the first are in every second caption, and of ten million
    captions hardly an entry is in none, so that there are as many counters and as long a head as can be.
    """
    entries = json.loads(Path(path).read_text())
    rng, matcher = np.random.default_rng(2), Matcher(entries)
    order, law = rng.permutation(len(entries)), np.cumsum(1 / np.arange(1, len(entries) + 1))
    for number in range(rows // SHARD):
        lengths = rng.integers(4, 13, SHARD)
        drawn = order[np.searchsorted(law, rng.random(lengths.sum()) * law[-1])].tolist()
        ends = np.cumsum(lengths).tolist()
        said = (drawn[start:end] for start, end in zip([0, *ends], ends, strict=False))
        chosen = pa.array([" ".join([entries[i] for i in some]) for some in said])
        uid = pa.array(np.frombuffer(rng.bytes(16 * SHARD), "V16").tolist(), pa.binary(16))
        file = folder / f"{number:08d}.parquet"
        pq.write_table(pa.table({"uid": uid, "match_ids": matcher.match(chosen)}), file, compression="zstd")
        yield file


def balance(folder: Path, path: str) -> None:
    """Run the filter's phases over the shards, files in and files out, and say what memory it took."""
    from curate.pool.columns import read_table, write_groups
    from curate.pool.storage import Storage
    from filters.metaclip import Metaclip
    from stages.base import Input, Inputs, Shape, ShardColumns

    storage, chosen = Storage.at(str(folder)), Metaclip(metadata=path, t=T, over="pool")
    found = sorted(folder.glob("*.parquet"))
    shape = Shape(tuple(int(f.stem) for f in found), (SHARD,) * len(found))

    def load(key: Input) -> pa.Table:
        if not isinstance(key, ShardColumns):
            return read_table(storage, f"{key.phase}/{key.part}.parquet", group=key.bucket)[0]
        table = pq.read_table(folder / f"{key.shard:08d}.parquet")
        return table.append_column("asked", pa.array([True] * table.num_rows))

    before, began = kilobytes("VmRSS"), time.perf_counter()
    told = {}
    for phase in chosen.phases(shape):
        (folder / phase.name).mkdir()
        assert not callable(phase.parts)
        for part in phase.parts:
            output = chosen.run(phase.name, part, Inputs(phase.inputs(part), load))
            tables = [output.tables] if isinstance(output.tables, pa.Table) else output.tables
            (folder / phase.name / f"{part}.parquet").write_bytes(
                write_groups(tables, {"stats": dict(output.stats or {})})
            )
            told[phase.name] = dict(output.stats or {})
    about = {"rows": shape.total, "peak_mb": (kilobytes("VmHWM") - before) / 1024, "s": time.perf_counter() - began}
    expected = [told[name]["expected"] for name in told if name.startswith("expected")][-1:]
    print(json.dumps(about | {"expected": expected} | told["probabilities"]))


def kilobytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--balance", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--entries", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.balance:
        balance(given.balance, given.entries)
    else:
        finish(measure(given.quick), None)
