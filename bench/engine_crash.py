"""Kill -9 at seeded random moments, two drivers at once, a full disk, Ctrl-C: the rerun ends byte for byte the same.

A moment is a number of committed files (drawn evenly over those of an undisturbed run) and some tenths of a second
more: so every kind of work is hit, however quick the machine. After each kill what was committed must be what it has
to become already, and after the rerun the pool must be the undisturbed one.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cluster import Cluster, Driver, Node, title
from common import Bar, at_most, bar, fresh, photos
from jobs import (
    Job,
    count_files,
    damaged,
    differences,
    family,
    faults,
    few_photos,
    leftovers,
    make_job,
    run,
    snapshot,
)

PHOTOS, SHARD, PACK = 240, 30, 60
JITTER_S = 0.4


@dataclass
class Trials:
    """The undisturbed pool, and what became of the disturbed ones."""

    job: Job
    expected: dict[str, str]
    files: int
    bytes: int
    done: int = 0
    same: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    leaked: list[str] = field(default_factory=list)
    rerun_s: list[float] = field(default_factory=list)

    def pool(self, name: str) -> Path:
        """A fresh folder for one trial's pool."""
        folder = self.job.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        return folder

    def judge(self, kind: str, pool: Path, problems: list[str], what: str) -> None:
        """Compare a pool after its rerun; `problems`: what was wrong on the way, as files damaged by the kill."""
        differ = differences(self.expected, snapshot(pool))
        bad = faults(pool)
        self.done += 1
        self.same += not differ and not problems
        self.faults += bad
        verdict = "same" if not differ and not problems and not bad else "DIFFERENT"
        print(f"{kind} {self.done}: {what}: {verdict}", *problems[:3], *differ[:5], dict(bad) or "", flush=True)
        if verdict == "same":
            shutil.rmtree(pool)


def undisturbed(name: str) -> Trials:
    """Run the job once, inline."""
    folder = fresh(name)
    source = few_photos(photos(2000), PHOTOS, folder / "photos.parquet")
    job = make_job(folder, source, shard=SHARD, pack=PACK)
    pool = folder / "undisturbed"
    began = time.monotonic()
    run(job, pool, "inline").ok()
    size = sum(p.stat().st_blocks * 512 for p in pool.rglob("*"))
    files = count_files(pool)
    print(f"undisturbed: {time.monotonic() - began:.1f} s, {files} files, {size / 1e6:.1f} MB", flush=True)
    return Trials(job, snapshot(pool), files, size)


def at_moment(pool: Path, files: int, jitter: float, alive: Callable[[], bool]) -> bool:
    """Wait until the pool has so many files, and a little more; False if the run is over by then."""
    while alive() and count_files(pool) < files:
        time.sleep(0.01)
    time.sleep(jitter)
    return alive()


def rerun(job: Job, pool: Path, executor: str, env: dict[str, str] | None = None) -> list[str]:
    """The same command to its end; what was wrong with it."""
    again = run(job, pool, executor, env=env)
    status = again.wait(600)
    return [f"the rerun gave {status}: {again.said()[-1500:]}"] if status else []


# ---- kill -9 of the driver


def kill_driver(trials: Trials, kind: str, seed: int, executor: str, env: dict[str, str] | None = None) -> None:
    """Kill the driver alone, see that nothing that it started lives on, and run the same command again."""
    draw = random.Random(f"driver {kind} {seed}")
    moment, jitter = draw.randrange(trials.files), draw.random() * JITTER_S
    pool = trials.pool(f"{kind}-{seed}")
    running = run(trials.job, pool, executor, env=env)
    hit = at_moment(pool, moment, jitter, lambda: running.alive)
    started = family(running.process.pid)
    running.kill()
    had = snapshot(pool)
    trials.leaked += leftovers(started, 120)  # Ray's agents take a minute to miss their raylet
    began = time.monotonic()
    problems = damaged(trials.expected, had) + rerun(trials.job, pool, executor, env)
    trials.rerun_s.append(time.monotonic() - began)
    what = f"at file {moment} of {trials.files} + {jitter:.2f} s" + ("" if hit else " (it was over)")
    trials.judge(kind, pool, problems, what)


# ---- kill -9 of workers and nodes, under a driver that goes on


def disturbed(trials: Trials, driver: Driver, kind: str, seed: int, disturb: Callable[[random.Random], str]) -> None:
    """Let the driver run while something below it dies; then run the same recipe again, inline."""
    draw = random.Random(f"{kind} {seed}")
    moment, jitter = draw.randrange(int(trials.files * 0.9)), draw.random() * JITTER_S
    pool = trials.pool(f"{kind}-{seed}")
    ended: list[str] = []
    driver.start(pool)
    waiting = threading.Thread(target=lambda: ended.append(driver.result()))
    waiting.start()
    at_moment(pool, moment, jitter, lambda: not ended)
    what = disturb(draw)
    waiting.join(300)
    had = snapshot(pool)
    problems = damaged(trials.expected, had) + rerun(trials.job, pool, "inline")
    result = ended[0].splitlines()[0] if ended else "stuck for 300 s"
    note = f"{what} at file {moment} of {trials.files} + {jitter:.2f} s; the run itself: {result}"
    trials.judge(kind, pool, problems + ([] if result == "done" else [result]), note)


def kill_worker(cluster: Cluster, draw: random.Random) -> str:
    """kill -9 of one worker that is at work, else of one that waits, as soon as there is one."""
    for _ in range(600):
        workers = [p for n in cluster.nodes if n.process.poll() is None for p in n.workers()]
        titles = {p: title(p) for p in workers}
        busy = [p for p, t in titles.items() if t.startswith(("ray::worker_entry", "ray::_Holder"))]
        idle = [p for p, t in titles.items() if t.startswith("ray::IDLE")]
        if busy or idle:
            chosen = draw.choice(sorted(busy or idle, key=lambda p: p.pid))
            chosen.kill()
            return f"{titles[chosen].strip()} killed"
        time.sleep(0.05)
    raise RuntimeError("Ray has no worker to kill")


def kill_node(cluster: Cluster, gpu_node: Callable[[], Node]) -> str:
    gpu_node().kill()
    cluster.add(gpus=1)
    return "node killed and brought back"


def crash_trials(quick: bool) -> Trials:
    trials = undisturbed("crash")
    inline, local, clustered, workers, nodes = (2, 1, 0, 2, 1) if quick else (19, 3, 3, 15, 10)
    for seed in range(inline):
        kill_driver(trials, "driver-inline", seed, "inline")
    for seed in range(local):
        kill_driver(trials, "driver-ray", seed, "ray")
    with Cluster(trials.job.folder) as cluster:
        cluster.add(gpus=1)
        for seed in range(clustered):
            kill_driver(trials, "driver-cluster", seed, "ray", cluster.env)
        driver = Driver(trials.job, cluster.env)
        for seed in range(workers):
            disturbed(trials, driver, "worker", seed, lambda draw: kill_worker(cluster, draw))
        for seed in range(nodes):
            disturbed(trials, driver, "node", seed, lambda _: kill_node(cluster, lambda: cluster.nodes[-1]))
        driver.close()
    return trials


# ---- two drivers, a full disk, Ctrl-C


def two_drivers(trials: Trials, executor: str) -> bool:
    """Two runs of the same command at once: both end well, and the pool is the undisturbed one."""
    pool = trials.pool(f"two-{executor}")
    both = [run(trials.job, pool, executor) for _ in range(2)]
    status = [r.wait() for r in both]
    differ, bad = differences(trials.expected, snapshot(pool)), faults(pool)
    print(f"two drivers, {executor}: exit {status}", *differ[:5], dict(bad) or "", flush=True)
    for r in both:
        if r.wait():
            print(r.said()[-2000:])
    return status == [0, 0] and not differ and not bad


@contextmanager
def small_disk(folder: Path, size: int):  # type: ignore[no-untyped-def]
    """A tmpfs of so many bytes; yields a function that gives it another size, or None where mount is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "curate", str(folder)], capture_output=True)
    if done.returncode:
        print("full disk: mount is not allowed here:", done.stderr.decode().strip())
        yield None
        return
    try:
        yield lambda more: subprocess.run(["mount", "-o", f"remount,size={more}", str(folder)], check=True)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def full_disk(trials: Trials, executor: str, share: float) -> bool | None:
    """A disk that holds a share of the pool: the run says so and ends with 1; on a larger one it ends the same."""
    disk = trials.job.folder / f"disk-{executor}-{share}"
    with small_disk(disk, int(trials.bytes * share)) as resize:
        if resize is None:
            return None
        pool = disk / "pool"
        running = run(trials.job, pool, executor)
        status, said = running.wait(), running.said()
        hurt = damaged(trials.expected, snapshot(pool))
        clear = "No space left on device" in said and "run the same command again" in said and "Traceback" not in said
        resize(trials.bytes * 3)
        again = run(trials.job, pool, executor)
        ended = again.wait()
        differ, bad = differences(trials.expected, snapshot(pool)), faults(pool)
    ok = status == 1 and clear and not hurt and ended == 0 and not differ and not bad
    print(f"full disk, {executor}, {share:.0%}: exit {status}, clear {clear}, {len(hurt)} damaged;", end=" ")
    print(f"rerun exit {ended}", *differ[:5], dict(bad) or "", flush=True)
    if not ok:
        print(said[-3000:], again.said()[-2000:] if ended else "")
    return ok


def interrupted(trials: Trials, executor: str, seed: int) -> bool:
    """Ctrl-C at some moment: exit status 130, words on how to go on, nothing left running."""
    # From the first file on: before it the interpreter itself is starting, and no program can hear the key.
    moment = random.Random(f"Ctrl-C {executor} {seed}").randrange(1, int(trials.files * 0.9))
    pool = trials.pool(f"interrupted-{executor}-{seed}")
    running = run(trials.job, pool, executor)
    at_moment(pool, moment, 0, lambda: running.alive)
    started = family(running.process.pid)
    began = time.monotonic()
    if running.alive:
        os.killpg(running.process.pid, signal.SIGINT)  # as a terminal does: all of the group
    status = running.wait(60)
    took = time.monotonic() - began
    left = leftovers(started, 120)
    said = running.said()
    ok = status == 130 and "Go on with: curate run" in said and "Traceback" not in said and not left
    print(f"Ctrl-C, {executor}, at file {moment}: exit {status} after {took:.1f} s, left running: {left}", flush=True)
    if not ok:
        print(said[-3000:])
    return ok


# ---- memory


def peak_mb(trials: Trials, shards: int) -> float:
    """Peak memory of an inline run over so many shards of three photos."""
    folder = trials.job.folder / f"memory-{shards}"
    source = folder / "photos.parquet"
    folder.mkdir(parents=True, exist_ok=True)
    few_photos(photos(2000), 3 * shards, source)
    running = run(make_job(folder, source, shard=3, pack=60), folder / "pool", "inline")
    _, status, usage = os.wait4(running.process.pid, 0)
    if status:
        raise RuntimeError(running.said()[-3000:])
    return usage.ru_maxrss / 1024


def memory_growth(trials: Trials, quick: bool) -> Bar:
    few, many = 20, 100 if quick else 400
    small, large = peak_mb(trials, few), peak_mb(trials, many)
    print(f"peak memory of an inline run: {small:.0f} MB at {few} shards, {large:.0f} MB at {many}", flush=True)
    return at_most(large - small, 60, 1)


def measure(quick: bool) -> dict[str, Bar]:
    trials = crash_trials(quick)
    print(f"reruns took {min(trials.rerun_s):.1f} to {max(trials.rerun_s):.1f} s; left running: {trials.leaked}")
    executors = ["inline"] if quick else ["inline", "ray"]
    two = [two_drivers(trials, e) for e in executors]
    shares = [("inline", 0.5)] if quick else [(e, s) for e in executors for s in (0.2, 0.45, 0.7)]
    full = [full_disk(trials, e, s) for e, s in shares]
    lost = trials.faults.total()
    # Several moments: what hears Ctrl-C differs from one kind of work to the next.
    counts = {"inline": 2} if quick else {"inline": 20, "ray": 4}
    heard = [interrupted(trials, e, seed) for e, n in counts.items() for seed in range(n)]
    return {
        "crash_trials_identical": bar(f"{trials.same}/{trials.done}", "all", trials.same == trials.done),
        "lost_doubled_torn": bar(lost, 0, lost == 0),
        "left_running_after_kill": bar(len(trials.leaked), 0, not trials.leaked),
        "two_drivers_identical": bar(all(two), True, all(two)),
        "full_disk_loses_nothing": bar(None, True, None) if None in full else bar(all(full), True, all(full)),
        "ctrl_c_says_how_to_go_on": bar(f"{sum(heard)}/{len(heard)}", "all", all(heard)),
        "driver_memory_growth_mb": memory_growth(trials, quick),
    }


def main() -> None:
    import sys

    print(measure("--quick" in sys.argv))


if __name__ == "__main__":
    main()
