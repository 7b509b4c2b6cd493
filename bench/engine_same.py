"""One recipe, many ways to run it: every file of the pool must be the same, byte for byte.

Inline; Ray with 1, 2 and 4 workers; a cluster of two nodes, one of them with a GPU that is not there; the same with
that node killed in mid-run and brought back; `ray job submit` to a local head; a pool on `s3://` behind a real server
of the protocol on loopback, inline and on Ray.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster import Cluster, free_port
from common import WORK, Bar, bar, fresh, photos, wait_until
from engine_crash import at_moment
from jobs import ROOT, Job, command, count_files, differences, few_photos, make_job, run, snapshot, surroundings

PHOTOS, SHARD, PACK = 240, 30, 60


class Modes:
    """The pool that the others are compared with, and what became of each way to run."""

    def __init__(self, name: str) -> None:
        folder = fresh(name)
        source = few_photos(photos(2000), PHOTOS, folder / "photos.parquet")
        self.job: Job = make_job(folder, source, shard=SHARD, pack=PACK)
        self.found: dict[str, list[str]] = {}
        run(self.job, self.pool("inline"), "inline").ok()
        self.expected = snapshot(self.pool("inline"))
        self.files = count_files(self.pool("inline"))
        self.note("inline", self.pool("inline"))

    def pool(self, mode: str) -> Path:
        return self.job.folder / mode.replace(" ", "-")

    def note(self, mode: str, pool: str | Path) -> None:
        """Compare the pool that this way of running left."""
        self.found[mode] = differences(self.expected, snapshot(pool))
        print(f"{mode}: {len(self.expected)} files", *self.found[mode][:5] or ["the same"], flush=True)

    def failed(self, mode: str, why: str) -> None:
        self.found[mode] = [why]
        print(f"{mode}: FAILED: {why}", flush=True)


def on_one_machine(modes: Modes, workers: list[int]) -> None:
    for n in workers:
        mode = f"ray {n}"
        run(modes.job, modes.pool(mode), "ray", "--workers", str(n)).ok(600)
        modes.note(mode, modes.pool(mode))


def on_two_nodes(modes: Modes) -> None:
    """The stage that asks for a GPU runs on the second node only; then that node dies in mid-run and comes back."""
    with Cluster(modes.job.folder) as cluster:
        node = cluster.add(gpus=1)
        run(modes.job, modes.pool("two nodes"), "ray", env=cluster.env).ok(600)
        modes.note("two nodes", modes.pool("two nodes"))
        mode = "two nodes, one killed"
        pool = modes.pool(mode)
        running = run(modes.job, pool, "ray", env=cluster.env)
        hit = at_moment(pool, modes.files // 3, 0.2, lambda: running.alive)
        node.kill()
        cluster.add(gpus=1)
        running.ok(600)
        if hit:
            modes.note(mode, pool)
        else:
            modes.failed(mode, "the run was over before the node was killed")


def python_with_jobs() -> str:
    """A Python that has `ray[default]`, whose head takes jobs; an environment of its own, which is kept."""
    venv = WORK / "venv-ray-default"
    python = str(venv / "bin" / "python")
    if not (venv / "ready").exists():
        uv = str(Path(sys.executable).parent / "uv")
        subprocess.run([uv, "venv", "-q", "--clear", "--python", sys.executable, str(venv)], check=True)
        wanted = ["-c", str(ROOT / "constraints.txt"), "-e", f"{ROOT}[s3]", "ray[default]", "psutil"]
        subprocess.run([uv, "pip", "install", "-q", "--compile-bytecode", "--python", python, *wanted], check=True)
        (venv / "ready").touch()
    return python


def by_job_submit(modes: Modes) -> None:
    """The very same command, handed to a local head with `ray job submit`."""
    python, mode = python_with_jobs(), "ray job submit"
    port = free_port()
    with Cluster(modes.job.folder, cpus=2, gpus=1, dashboard=port, python=python) as cluster:
        pool = modes.pool(mode)
        # The job's own process starts where Ray says; the environment is the one that a person would set for it.
        env = surroundings(modes.job.folder, cluster.env)
        there = {k: env[k] for k in ("PYTHONPATH", "CURATE_CACHE")}
        line = [f"{k}={v}" for k, v in there.items()] + [python, *command(modes.job, pool, "ray")[1:]]
        submit = [str(Path(python).parent / "ray"), "job", "submit", "--address", f"http://127.0.0.1:{port}", "--"]
        done = subprocess.run(
            [*submit, "env", *line], env=env, capture_output=True, text=True, cwd=modes.job.folder, timeout=600
        )
        if done.returncode:
            modes.failed(mode, f"{shlex.join(submit)}: {done.stdout[-2000:]} {done.stderr[-2000:]}")
        else:
            modes.note(mode, pool)


@contextmanager
def s3() -> Iterator[dict[str, str]]:
    """A moto server in a process of its own, with one bucket, `pools`; yields the environment that leads there."""
    port = free_port()
    server = subprocess.Popen(
        [str(Path(sys.executable).parent / "moto_server"), "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    env = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = dict(os.environ)
    os.environ.update(env)
    try:
        if not wait_until(lambda: _bucket(), 60, gap=0.5):
            raise RuntimeError("moto_server did not come up")
        yield env
    finally:
        os.environ.clear()
        os.environ.update(before)
        server.terminate()
        server.wait(10)


def _bucket() -> bool:
    import fsspec

    try:
        fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True).mkdir("pools")
    except OSError:  # not up yet
        return False
    return True


def on_s3(modes: Modes, executors: list[str]) -> None:
    with s3() as env:
        for executor in executors:
            pool = f"s3://pools/{executor}"
            began = time.monotonic()
            run(modes.job, pool, executor, env=env).ok(600)
            modes.note(f"s3 {executor}", pool)
            print(f"  in {time.monotonic() - began:.1f} s", flush=True)


def measure(quick: bool) -> dict[str, Bar]:
    modes = Modes("same")
    parts = {
        "ray": lambda: on_one_machine(modes, [2] if quick else [1, 2, 4]),
        "s3": lambda: on_s3(modes, ["inline"] if quick else ["inline", "ray"]),
    }
    if not quick:
        parts |= {"two nodes": lambda: on_two_nodes(modes), "ray job submit": lambda: by_job_submit(modes)}
    for name, part in parts.items():
        try:
            part()
        except (RuntimeError, subprocess.SubprocessError) as e:
            modes.failed(name, str(e))
    same = [m for m, differ in modes.found.items() if not differ]
    ok = len(same) == len(modes.found)
    return {"same_bytes_everywhere": bar(f"{len(same)} ways to run", f"all {len(modes.found)}", ok)}


def main() -> None:
    print(measure("--quick" in sys.argv))


if __name__ == "__main__":
    main()
