"""A small recipe that goes through every kind of work, run from outside; what its pool holds, file by file.

job = make_job(folder, photos=240, shard=30)
run(job, pool, "inline").wait()
differences(snapshot(pool_a), snapshot(pool_b))          # [] where the pools hold the same bytes
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from curate.pool.layout import PIXELS
from curate.pool.storage import Storage

ROOT = Path(__file__).resolve().parent.parent

# Logs and reports of runs, what is being written, and the log of fetches, which has times: all else is compared.
LEFT_OUT = ("runs/", "tmp/", "fetch/")

RECIPE = """\
recipe: walls
seed: 11
shard_size: {shard}
source: {{path: {photos}, name: photos, url: null, image: image, text: caption}}
ingest: {{resize: short, side: 96}}
columns:
  - image_facts
  - run.parts:Doubled: {{gpus: {gpus}}}
  - run.parts:RankOfAll
  - run.parts:Captioner
filters:
  - image_size: {{min_side: 64, max_aspect: 3}}
  - where: "sharpness > 300 and not blank"
    on_missing: drop
  - caption_length: {{min_words: 5}}
  - language: {{keep: [en]}}
    on_missing: drop
  - top_fraction: {{column: mean, fraction: 0.8, over: pool}}
    on_missing: drop
  - keep_one: {{by: phash64, distance: 4, prefer: [sharpness desc], over: survivors}}
  - run.parts:EveryOther: {{over: survivors}}
captions:
  emit:
    - texts: [{{source: web, p: 0.5}}, {{source: caption, p: 0.5}}]
    - copies: 2
      texts: [{{source: caption}}]
pack: {{samples: {pack}}}
"""


@dataclass(frozen=True)
class Job:
    """A recipe file, and the folder in which its runs leave their logs."""

    recipe: Path
    folder: Path


def make_job(folder: Path, photos: Path, *, shard: int, pack: int, gpus: int = 1) -> Job:
    """Write the recipe over a parquet of photos; one of its stages asks for so many GPUs."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(shard=shard, photos=photos, pack=pack, gpus=gpus))
    return Job(recipe, folder)


def noise(folder: Path, rows: int) -> Path:
    """A parquet of small pictures of noise with captions in English: for tests, where photos may be absent."""
    import io

    import numpy as np
    from PIL import Image

    draw = np.random.default_rng(5)
    pictures = []
    for i in range(rows):
        coarse = Image.fromarray(draw.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        out = io.BytesIO()
        # Some are blurred so far that the recipe drops them.
        coarse.resize((128, 96), Image.Resampling.BICUBIC if i % 7 == 0 else Image.Resampling.NEAREST).save(out, "PNG")
        pictures.append(out.getvalue())
    captions = [f"a brown dog runs over the green grass behind {i} white sheep" for i in range(rows)]
    table = pa.table({"image": pa.array(pictures, pa.binary()), "caption": captions})
    path = folder / "noise.parquet"
    pq.write_table(table, path)
    return few_photos(path, rows, folder / "photos.parquet")


def few_photos(source: Path, rows: int, out: Path) -> Path:
    """The first rows of a parquet of photos; every tenth picture comes once more, under a caption of its own."""
    table = next(pq.ParquetFile(source).iter_batches(rows)).to_pydict()
    images, captions = table["image"], table["caption"]
    for i in range(9, len(images), 10):
        images[i] = images[i - 5]
    pq.write_table(pa.table({"image": pa.array(images, pa.binary()), "caption": captions}), out, row_group_size=100)
    return out


# ---- running


@dataclass
class Running:
    """A run in a process group of its own. `log` has what it said."""

    process: subprocess.Popen[bytes]
    log: Path
    began: float = field(default_factory=time.monotonic)

    def wait(self, seconds: float = 300) -> int:
        return self.process.wait(seconds)

    def ok(self, seconds: float = 300) -> Running:
        """Wait for an exit status of 0.

        Raises:
            RuntimeError: with the end of the log.
        """
        status = self.wait(seconds)
        if status:
            raise RuntimeError(f"{self.process.args} gave {status}:\n{self.said()[-3000:]}")
        return self

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def kill(self, number: int = signal.SIGKILL) -> None:
        """The driver alone: what it started has to notice by itself."""
        self.process.send_signal(number)
        if number == signal.SIGKILL:
            self.process.wait()


def command(job: Job, pool: str | Path, executor: str, *more: str) -> list[str]:
    run = ["run", str(job.recipe), "--pool", str(pool), "--executor", executor, "--no-report"]
    return [sys.executable, "-m", "curate.cli", *run, *more]


def run(job: Job, pool: str | Path, executor: str, *more: str, env: dict[str, str] | None = None) -> Running:
    """Start `curate run` on the pool. Ray on this machine is told of one GPU, which is not there."""
    log = job.folder / f"log-{Path(str(pool)).name}-{time.monotonic_ns()}.txt"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command(job, pool, executor, *more), stdout=out, stderr=subprocess.STDOUT, cwd=job.folder,
            env=surroundings(job.folder, env), start_new_session=True, preexec_fn=_hear_ctrl_c,
        )  # fmt: skip
    return Running(process, log)


def _hear_ctrl_c() -> None:
    """A shell tells what it starts in the background to ignore Ctrl-C, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run_here(recipe: Path, pool: str | Path, executor: str) -> None:
    """The same in this process, without the command line.

    Raises:
        UserError, PartialFailure: as `curate run` says and exits with 1 or 3.
    """
    from curate.recipe import load_recipe
    from curate.run.job import Job as CurateJob
    from curate.run.progress import Progress

    job = CurateJob(load_recipe(str(recipe), [f"pool={json.dumps(str(pool))}"]), executor)
    with Progress(None, str(recipe)) as progress:
        try:
            job.pack(progress, job.run(progress).pick)
        finally:
            job.choice.close()


def surroundings(folder: Path, more: dict[str, str] | None = None) -> dict[str, str]:
    """Environment of a run: our packages and the users' classes, caches of its own, no cluster unless named."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    clean = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    fixed = {"PYTHONPATH": paths, "CURATE_CACHE": str(folder / "cache"), "RAY_OVERRIDE_RESOURCES": '{"GPU": 1}'}
    return {**clean, **fixed, **(more or {})}


# ---- looking


def snapshot(pool: str | Path, kinds: Sequence[str] = ("",)) -> dict[str, str]:
    """File -> sha256 of its bytes, of all files whose names begin with one of `kinds`."""
    root = str(pool)
    if "://" in root:
        return _remote_snapshot(root, kinds)
    found = {}
    for path in sorted(Path(root).rglob("*")):
        rel = str(path.relative_to(root))
        if path.is_file() and _compared(rel, kinds):
            found[rel] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _remote_snapshot(url: str, kinds: Sequence[str]) -> dict[str, str]:
    import fsspec

    fs, prefix = fsspec.core.url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
    names = {n: n.removeprefix(prefix).lstrip("/") for n in fs.find(prefix)}
    wanted = {n: rel for n, rel in names.items() if _compared(rel, kinds)}
    return {rel: hashlib.sha256(fs.cat_file(n)).hexdigest() for n, rel in sorted(wanted.items())}


def _compared(rel: str, kinds: Sequence[str]) -> bool:
    return not rel.startswith(LEFT_OUT) and any(rel.startswith(k) for k in kinds)


def differences(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """One line a file that is missing, extra or other."""
    lines = [f"missing: {n}" for n in expected.keys() - found.keys()]
    lines += [f"extra: {n}" for n in found.keys() - expected.keys()]
    lines += [f"other bytes: {n}" for n in expected.keys() & found.keys() if expected[n] != found[n]]
    return sorted(lines)


def damaged(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """Files of a pool that is not whole yet, but that are not what they have to become."""
    return sorted(n for n in expected.keys() & found.keys() if expected[n] != found[n])


def count_files(pool: Path) -> int:
    """Committed files, cheaply: how far a run has come."""
    total, folders = 0, [str(pool)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for e in entries:
                    if e.is_dir(follow_symlinks=False):
                        if e.name not in ("tmp", "runs"):
                            folders.append(e.path)
                    else:
                        total += 1
        except FileNotFoundError:
            continue
    return total


def faults(pool: Path) -> Counter[str]:
    """Samples that are lost, doubled or torn: what was listed against markers, markers against tars."""
    storage = Storage.at(pool)
    listed = [u for f in sorted(pool.glob("lists/*@*/*.parquet")) for u in pq.read_table(f).column("uid").to_pylist()]
    stored: Counter[bytes] = Counter()
    found: Counter[str] = Counter()
    for marker in sorted((pool / PIXELS).glob("*.parquet")):
        file = pq.ParquetFile(marker)
        notes = json.loads(file.schema_arrow.metadata[b"curate"])
        rows = file.read().to_pylist()
        stored.update(r["uid"] for r in rows)
        found["torn"] += _torn(storage.local(f"{PIXELS}/{notes['tar']}"), rows)
        outcomes = sum(notes["outcomes"].values())
        found["lost"] += abs(notes["listed"] - outcomes) + abs(notes["outcomes"].get("ok", 0) - len(rows))
    found["lost"] += len(set(listed) - stored.keys())
    found["doubled"] += sum(n - 1 for n in stored.values()) + len(listed) - len(set(listed))
    return +found


def _torn(tar: Path, rows: list[dict[str, object]]) -> int:
    """Rows whose image is not where the facts say, members without a row; all rows if the tar's digest is another."""
    digest = xxhash.xxh3_128_hexdigest(tar.read_bytes())[:8]
    if digest != tar.name.split(".")[1]:
        return len(rows)
    with tarfile.open(tar) as members:
        inside = {m.name: (m.offset_data, m.size) for m in members}
    wanted = {f"{r['uid'].hex()}.{r['format']}": (r["tar_offset"], r["bytes"]) for r in rows}  # type: ignore[attr-defined]
    return sum(inside.get(n) != span for n, span in wanted.items()) + len(inside.keys() - wanted.keys())


# ---- processes


def family(pid: int) -> list[psutil.Process]:
    """All processes below one."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def leftovers(processes: Sequence[psutil.Process], seconds: float = 10) -> list[str]:
    """Those that still live after so many seconds."""
    _, alive = psutil.wait_procs(list(processes), timeout=seconds)
    return [f"{p.pid} {' '.join(p.cmdline())[:80]}" for p in alive if p.is_running()]
