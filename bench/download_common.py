"""What the download benchmarks share: photos, a fast server, a run of either side and what it took.

Both sides get the same URLs, server, settings and cores, and run in processes of their own.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from common import ROOT, WORK, environment, fresh, photos, wait_until

BENCH = ROOT / "bench"
MOSAICS = 300


# ---- photos


def tiles(count: int = 1500) -> list[bytes]:
    """Encoded photos of 224 pixels or so, real ones where they are."""
    return [i for b in pq.ParquetFile(photos(count)).iter_batches(columns=["image"]) for i in b.column(0).to_pylist()]


def small_photos() -> Path:
    """A folder of 300 small photos, 0.jpg to 299.jpg: decoding them is not what limits a download."""
    return _folder("web-small", lambda n: tiles()[:n])


def mosaics() -> Path:
    """A folder of 300 photos of about 0.8 megapixels and 160 KB, put together of small ones."""
    return _folder("web-mosaics", _mosaics)


def _folder(name: str, make: Any) -> Path:
    folder = WORK / name
    if not folder.exists():
        part = fresh(f"{name}.part")
        for n, data in enumerate(make(MOSAICS)):
            (part / f"{n}.jpg").write_bytes(data)
        part.rename(folder)
    return folder


def _mosaics(count: int) -> list[bytes]:
    from PIL import Image

    draw = np.random.default_rng(0)
    images = [Image.open(io.BytesIO(t)).convert("RGB").resize((224, 224)) for t in tiles()]
    found = []
    for _ in range(count):
        columns, rows = draw.integers(3, 7), draw.integers(2, 6)
        whole = Image.new("RGB", (224 * int(columns), 224 * int(rows)))
        for x in range(columns):
            for y in range(rows):
                whole.paste(images[draw.integers(len(images))], (224 * x, 224 * y))
        out = io.BytesIO()
        whole.save(out, "JPEG", quality=int(draw.integers(70, 92)))
        found.append(out.getvalue())
    return found


# ---- servers


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


NGINX = """\
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_rlimit_nofile 20000;
events {{ worker_connections 8192; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; default_type image/jpeg;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ root {root}; }} }}
}}
"""


@contextmanager
def static_server(root: Path):  # type: ignore[no-untyped-def]
    """Serve the files of a folder on 127.0.0.1: nginx where it is, else a server of our own. Yields the base URL."""
    port, folder = free_port(), fresh("server")
    nginx = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    if nginx:
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, root=root))
        command = [nginx, "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    else:
        plan = {"port": port, "folder": str(root), "kinds": ["good"], "latency_s": [0, 0]}
        (folder / "plan.json").write_text(json.dumps(plan))
        command = [sys.executable, str(BENCH / "web_like.py"), str(folder / "plan.json")]
    with serving(command, port, folder):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def serving(command: Sequence[str], port: int, folder: Path):  # type: ignore[no-untyped-def]
    """Run a server until the block is left.

    Raises:
        RuntimeError: it does not answer; with what it said.
    """
    log = folder / "server.txt"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment())
    try:
        if not wait_until(lambda: _answers(port) or process.poll() is not None, 30) or process.poll() is not None:
            raise RuntimeError(f"{' '.join(command)} does not answer: {log.read_text()[-2000:]}")
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


# ---- a run of either side


@dataclass(frozen=True)
class Took:
    """What a run took, with all of its processes, and what became of its URLs."""

    urls: int
    ok: int
    wall: float
    cpu: float
    peak_mb: float
    outcomes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Rate:
    """Of the difference of a long run and a short one, so that start-up is not in it."""

    cpu_ms: float  # CPU milliseconds an image
    per_s: float  # images a second by the clock

    @staticmethod
    def between(short: Took, long: Took) -> Rate:
        more = long.urls - short.urls
        return Rate(1000 * (long.cpu - short.cpu) / more, more / (long.wall - short.wall))


def write_list(path: Path, urls: Sequence[str]) -> Path:
    pq.write_table(pa.table({"url": list(urls)}), path)
    return path


def ours(name: str, urls: Sequence[str], spec: dict[str, Any], shard_size: int = 10_000, memory: bool = False) -> Took:
    """A run of ours from nothing."""
    folder = fresh(name)
    list_path = write_list(folder / "list.parquet", urls)
    job = {"list": str(list_path), "pool": str(folder / "pool"), "spec": spec, "shard_size": shard_size}
    (folder / "job.json").write_text(json.dumps(job))
    used, said = _run(folder, [sys.executable, str(BENCH / "download_ours.py"), str(folder / "job.json")], memory)
    outcomes = json.loads(said.strip().splitlines()[-1])
    shutil.rmtree(folder / "pool")
    return Took(len(urls), outcomes.get("ok", 0), outcomes=outcomes, **used)


def theirs(name: str, urls: Sequence[str], settings: dict[str, Any], shard_size: int = 10_000) -> Took:
    """A run of img2dataset from nothing, as it comes but for `settings` and EXIF, which costs it time."""
    folder = fresh(name)
    job = {
        "url_list": str(write_list(folder / "list.parquet", urls)),
        "output_folder": str(folder / "out"),
        "input_format": "parquet",
        "url_col": "url",
        "output_format": "webdataset",
        "number_sample_per_shard": shard_size,
        "enable_wandb": False,
        "extract_exif": False,
        **settings,
    }
    (folder / "job.json").write_text(json.dumps(job))
    python = img2dataset_python()
    assert python is not None
    used, said = _run(folder, [python, str(BENCH / "download_theirs.py"), str(folder / "job.json")], False)
    stats = [json.loads(p.read_text()) for p in (folder / "out").glob("*_stats.json")]
    if sum(s["count"] for s in stats) != len(urls):
        raise RuntimeError(f"img2dataset did {sum(s['count'] for s in stats)} of {len(urls)} URLs: {said[-2000:]}")
    shutil.rmtree(folder / "out")
    return Took(len(urls), sum(s["successes"] for s in stats), **used)


def _run(folder: Path, command: Sequence[str], memory: bool) -> tuple[dict[str, float], str]:
    """(wall, cpu, peak_mb; what the command printed)."""
    out = folder / "usage.json"
    whole = [sys.executable, str(BENCH / "usage.py"), str(out), *(["--memory"] if memory else []), *command]
    done = subprocess.run(whole, capture_output=True, text=True, env=environment(), cwd=folder)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} gave {done.returncode}: {done.stdout[-2000:]}{done.stderr[-3000:]}")
    return json.loads(out.read_text()), done.stdout


@cache
def img2dataset_python() -> str | None:
    """Python of an environment that has img2dataset; None: nowhere.

    Of `--img2dataset` (or CURATE_IMG2DATASET), .img2dataset of the repository, img2dataset of the benchmarks' folder.
    """
    folders = [ROOT / ".img2dataset", WORK / "img2dataset"]
    for python in filter(None, [os.environ.get("CURATE_IMG2DATASET"), *(str(f / "bin/python") for f in folders)]):
        if Path(python).exists():
            ask = "from importlib.metadata import version; print(version('img2dataset'))"
            done = subprocess.run([python, "-c", ask], capture_output=True, text=True)
            if done.returncode == 0:
                print(f"img2dataset {done.stdout.strip()} at {python}", flush=True)
                return python
    where = " nor in ".join(map(str, folders))
    print(f"no img2dataset in {where}: give --img2dataset PYTHON; what compares with it is not measured", flush=True)
    return None
