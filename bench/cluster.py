"""A Ray cluster of several nodes on this machine, each with a loopback address of its own, and a driver that stays.

with Cluster(folder) as cluster:
    node = cluster.add(gpus=1)          # GPUs that are not there: what asks for them runs on that node
    node.kill(); node = cluster.add(gpus=1)
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import psutil
from common import wait_until
from jobs import ROOT, Job, family, run_here, surroundings

# A dead node is noticed in two seconds instead of half a minute.
QUICK_TO_NOTICE = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}

# Clusters of ours and nobody else's: Ray lets in who knows the token.
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Node:
    """One `ray start --block`, and what it started."""

    def __init__(self, folder: Path, number: int, options: Sequence[str], python: str = sys.executable) -> None:
        low = 20_000 + 1000 * number
        command = [
            str(Path(python).parent / "ray"), "start", "--block", "--disable-usage-stats", *options,
            "--object-store-memory=100000000",
            f"--min-worker-port={low}", f"--max-worker-port={low + 999}",
        ]  # fmt: skip
        env = surroundings(folder, QUICK_TO_NOTICE | TOKEN)
        env.pop("RAY_OVERRIDE_RESOURCES")
        self.log = folder / f"node-{number}.txt"
        self.command, self.env = command, env
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                self.command, stdout=out, stderr=subprocess.STDOUT, env=self.env, cwd=self.log.parent,
                start_new_session=True,
            )  # fmt: skip

    def processes(self) -> list[psutil.Process]:
        return family(self.process.pid)

    def workers(self) -> list[psutil.Process]:
        """Workers that wait or are at work."""
        return [p for p in self.processes() if title(p).startswith("ray::")]

    def kill(self) -> None:
        """kill -9 of its raylet; the workers notice by themselves, what is left then is killed too."""
        everything = self.processes()
        for p in everything:
            if "raylet/raylet" in title(p):
                p.kill()
        _, alive = psutil.wait_procs(everything, timeout=5)
        _end(alive)
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        everything = self.processes()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        _end(psutil.wait_procs(everything, timeout=3)[1])


def title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _end(processes: Sequence[psutil.Process]) -> None:
    for p in processes:
        try:
            p.kill()
        except psutil.NoSuchProcess:
            continue


class Cluster:
    """A head of so many CPUs, and the nodes that were added. Leaving the block ends them all."""

    def __init__(
        self, folder: Path, cpus: int = 1, gpus: int = 0, dashboard: int | None = None, python: str = sys.executable
    ) -> None:
        self.folder, self.python = folder, python
        import ray

        # A driver looks for the node of its own address: the head has it, the others are on loopback.
        self.host, self.port = ray.util.get_node_ip_address(), free_port()
        self.address = f"{self.host}:{self.port}"
        more = [f"--include-dashboard={'true' if dashboard else 'false'}"]
        more += [f"--dashboard-port={dashboard}"] if dashboard else []
        head = ["--head", f"--port={self.port}", f"--node-ip-address={self.host}", f"--num-cpus={cpus}"]
        head += [f"--num-gpus={gpus}", *more]
        self.nodes = [Node(folder, 0, head, python)]
        self._up(1)

    @property
    def env(self) -> dict[str, str]:
        return {"RAY_ADDRESS": self.address, **TOKEN}

    def add(self, cpus: int = 1, gpus: int = 0) -> Node:
        """Start one more node and wait until the cluster counts it."""
        options = [f"--address={self.address}", f"--num-cpus={cpus}", f"--num-gpus={gpus}"]
        options += [f"--node-ip-address=127.0.0.{1 + len(self.nodes)}"]
        self.nodes.append(Node(self.folder, len(self.nodes), options, self.python))
        self._up(sum(n.process.poll() is None for n in self.nodes))
        return self.nodes[-1]

    def _up(self, count: int) -> None:
        node = self.nodes[-1]
        for _ in range(3):  # on a busy machine Ray gives its own start up after 30 s
            if wait_until(lambda: node.process.poll() is not None or self._alive() >= count, 120, gap=0.5):
                if node.process.poll() is None:
                    return
                node.start()
        self.close()
        raise RuntimeError(f"Ray did not come up: {node.log.read_text()[-2000:]}")

    def _alive(self) -> int:
        """Nodes that the head knows to live. Asked in a process of its own: ours never joins a cluster."""
        ask = (
            "import sys; from ray._raylet import GcsClient\n"
            "nodes = GcsClient(address=sys.argv[1]).get_all_node_info(timeout=5)\n"
            "print(sum(n.state == 0 for n in nodes.values()))"
        )
        try:
            socket.create_connection((self.host, self.port), 1).close()
        except OSError:
            return 0
        env = {**os.environ, **TOKEN}
        done = subprocess.run([self.python, "-c", ask, self.address], capture_output=True, env=env, timeout=60)
        return int(done.stdout) if done.returncode == 0 else 0

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        for node in reversed(self.nodes):
            node.close()


class Driver:
    """One process that runs the recipe on pool after pool, so that a trial pays for no start of its own."""

    def __init__(self, job: Job, env: dict[str, str]) -> None:
        self.log = (job.folder / "driver.txt").open("ab")
        command = [sys.executable, str(ROOT / "bench" / "cluster.py"), str(job.recipe)]
        paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(ROOT / "bench")])
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, cwd=job.folder, text=True,
            env=surroundings(job.folder, {**env, "PYTHONPATH": paths}),
        )  # fmt: skip

    def start(self, pool: Path) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{pool}\n")
        self.process.stdin.flush()

    def result(self) -> str:
        """What became of the run: "done", or the error. Blocks until then."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                return str(json.loads(line)["result"])
        return "the driver died"

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)
        self.log.close()


def drive(recipe: Path) -> None:
    """Run the recipe on Ray for each pool that is named on standard input."""
    for line in sys.stdin:
        try:
            run_here(recipe, line.strip(), "ray")
            result = "done"
        except Exception as e:  # noqa: BLE001 - the bench judges what a run may die of
            result = f"{type(e).__name__}: {e}"
        print(json.dumps({"result": result}), flush=True)


if __name__ == "__main__":
    drive(Path(sys.argv[1]))
