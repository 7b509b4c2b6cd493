"""The worker of a comparison: train one entry in one replicate, evaluate it, keep what came out.

    judge/<hash of pack and configuration>/
        run.json                     the marker: how the training went, its curve
        towers.pt                    the weights, for another set asked for later
        scores/<hash of set>.json    one evaluation each; ...-probe.json: linear probe and neighbours
        config.json, packs.json, environment.json, metrics.jsonl, README.md

Equal trainings are one, whoever asks for them: another recipe, another set or more seeds cost what is new in them. A
run that is killed goes on from its checkpoint.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from curate.errors import UserError
from curate.pool.layout import short_hash
from curate.pool.storage import Storage
from curate.run.compare.sets import EvalSet
from curate.run.executors import import_paths

if TYPE_CHECKING:
    from training_smoke.config import Config

JUDGE = "judge"
VERSION = 1  # rises when training gives other numbers for the same configuration
EVALUATION = 3  # rises when evaluation does, for the same model and set
PR_SET_PDEATHSIG = 1
RUN, TOWERS, PROBE = "run.json", "towers.pt", "-probe.json"
KEPT = ("config.json", "packs.json", "environment.json", "metrics.jsonl")


@dataclass(frozen=True)
class Training:
    """One run. pack: folder below the pool; digest: of its manifest. weights: digest of those that it begins with,
    where they are a file. device: other sums there, other numbers."""

    pack: str
    digest: str
    config: Config
    weights: str | None = None
    device: Literal["cpu", "cuda"] = "cpu"

    @property
    def folder(self) -> str:
        config = self.config.as_json()
        if self.weights is not None:
            config["towers"]["weights"] = self.weights  # by what is in them, not by where they lie
        return f"{JUDGE}/{short_hash([VERSION, self.digest, config, self.device])}"


@dataclass(frozen=True)
class TrainWork:
    """What workers share. runs: by item. threads: of one run, on a CPU. processes: of one run, all on one
    machine. gpus: that one run needs. probe: also linear probes and nearest neighbours, where sets allow it."""

    pool: str
    runs: Mapping[str, Training]
    sets: tuple[EvalSet, ...]
    threads: int
    processes: int = 1
    gpus: int = 0
    probe: bool = False

    def scores(self, item: str) -> dict[str, EvalSet]:
        """File below the pool -> the set of which it holds what this run scores."""
        folder = f"{self.runs[item].folder}/scores"
        probed = [s for s in self.sets if s.probed and self.probe]
        names = {s.name: f"{folder}/{short_hash([EVALUATION, s.digest])}" for s in self.sets}
        return {f"{names[s.name]}.json": s for s in self.sets} | {f"{names[s.name]}{PROBE}": s for s in probed}

    def missing(self, item: str, storage: Storage) -> bool:
        folder = self.runs[item].folder
        if not storage.exists(f"{folder}/{RUN}"):
            return True
        scored = all(storage.exists(file) for file in self.scores(item))
        return not scored and "diverged" not in json.loads(storage.read(f"{folder}/{RUN}"))


def train_one(work: TrainWork, item: str) -> dict[str, Any]:
    """Worker: what is missing of one run.

    Raises:
        UserError: a pack, a set or the training itself has a fault that a person can mend.
    """
    import torch

    from training_smoke.card import card
    from training_smoke.errors import TrainingError
    from training_smoke.files import locked

    if torch.cuda.device_count() < work.gpus:
        raise UserError(
            f"{item}: asks for {work.gpus} GPU{'s' * (work.gpus > 1)}, and torch sees {torch.cuda.device_count()} "
            "here; `--gpus 0` trains on the CPU, at scales `feature` and `tiny` nothing else is needed"
        )
    storage, run = Storage.at(work.pool), work.runs[item]
    before = torch.get_num_threads()
    torch.set_num_threads(work.threads)
    try:
        place = _place(storage, run)
        place.mkdir(parents=True, exist_ok=True)
        with locked(place / "lock"):  # of a run that was killed, a worker may live on for a while
            if not storage.exists(f"{run.folder}/{RUN}"):
                _train(storage, run, place, work.processes)
            for left in (place / "checkpoints").glob("*"):  # the weights are in towers.pt; going on is over
                left.unlink(missing_ok=True)
        if _evaluate(storage, run, work.scores(item)) and (place / "config.json").exists():
            storage.put(f"{run.folder}/README.md", card(place).encode())
    except TrainingError as e:
        raise UserError(f"{item}: {e}") from e
    finally:
        torch.set_num_threads(before)
    return {"rows": run.config.samples}


def _train(storage: Storage, run: Training, folder: Path, processes: int) -> None:
    """Train, and keep weights, curve and marker; of a run that diverged, what it said."""
    from training_smoke.guard import Diverged
    from training_smoke.packs import Pack
    from training_smoke.towers_file import load_model, save_model
    from training_smoke.train import train
    from training_smoke.writers import read_metrics

    began, url = time.perf_counter(), f"{storage.url}/{run.pack}"
    try:
        if processes == 1:
            model = train(folder, run.config, {Pack.open(url): 1.0}, device=run.device)
        else:
            _launch(folder, run.config, url, processes)
            model = load_model(folder)
    except Diverged as e:  # it would again: a result, and no reason to hold up the others
        storage.commit(f"{run.folder}/{RUN}", json.dumps({"diverged": str(e), "pack": run.pack}).encode())
        return
    seconds = time.perf_counter() - began
    scale = {name: value.item() for name, value in _last(folder).get("objective", {}).items()}
    about = {"pack": run.pack, "digest": run.digest, "objective": scale}
    save_model(folder / TOWERS, model, run.config, about)
    metrics = read_metrics(folder)
    rates = sorted(m["samples_per_s"] for m in metrics)
    said = {
        "seconds": round(seconds, 3),
        "samples_per_s": rates[len(rates) // 2],
        "curve": [[m["samples"], m["loss"]] for m in metrics],
        "pack": run.pack,
    }
    if not storage.is_local:
        for name in (*KEPT, TOWERS):
            if (folder / name).exists():
                storage.commit(f"{run.folder}/{name}", (folder / name).read_bytes())
    storage.commit(f"{run.folder}/{RUN}", json.dumps(said).encode())


def _launch(folder: Path, config: Config, pack: str, processes: int) -> None:
    """The same training on several processes of this machine, under torchrun.

    Raises:
        TrainingError: it failed; with what it said last.
    """
    from training_smoke.errors import TrainingError
    from training_smoke.guard import DIVERGED, Diverged

    asked = folder / "asked.json"
    asked.write_text(json.dumps(config.as_json()))
    log = folder / "torchrun.txt"
    with log.open("wb") as out:
        done = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}",
             "-m", "training_smoke.train", str(folder), "--pack", pack, "--config", str(asked)],
            env=os.environ | {"PYTHONPATH": import_paths()}, stdout=out, stderr=subprocess.STDOUT, check=False,
            preexec_fn=_end_with_parent,
        )  # fmt: skip
    if done.returncode:
        text = log.read_text("utf-8", "replace")
        said = [line.removeprefix("error: ") for line in text.splitlines() if line.startswith("error: ")]
        if said and said[0].startswith(DIVERGED):
            raise Diverged(said[0], 0, ())
        raise TrainingError(
            f"training on {processes} processes ended with status {done.returncode}: {(said or [text[-2000:]])[0]}"
        )


def _end_with_parent() -> None:
    """Of torchrun, which ends its workers: else they live on after a kill -9 of ours, with GPUs and folder."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _last(folder: Path) -> dict[str, Any]:
    from training_smoke import checkpoint

    state = checkpoint.load_newest(folder / "checkpoints")
    assert state is not None  # train() wrote it at the last step
    return state


def _evaluate(storage: Storage, run: Training, scores: Mapping[str, EvalSet]) -> int:
    """How many scores were not there and are now."""
    from curate.run.compare.model import model_of
    from training_smoke.evaluate.run import evaluate, evaluate_probe, evaluate_task
    from training_smoke.evaluate.tasks import TASKS

    todo = {file: chosen for file, chosen in scores.items() if not storage.exists(file)}
    if not todo or not storage.exists(f"{run.folder}/{TOWERS}"):  # a run that diverged left none
        return 0
    precision = run.config.precision if run.device == "cuda" else "fp32"
    model, objective = model_of(storage.local(f"{run.folder}/{TOWERS}"), run.device, precision)
    for file, chosen in todo.items():
        if file.endswith(PROBE):
            record: dict[str, Any] = {"dataset": chosen.name, "metrics": evaluate_probe(model, chosen.path)}
        elif chosen.task is not None:
            record = evaluate_task(model, TASKS[chosen.task], chosen.path.rsplit("/", 1)[0])
        else:
            record = evaluate(model, chosen.path, name=chosen.name, objective=objective)
        storage.commit(file, json.dumps(record).encode())
    return len(todo)


def _place(storage: Storage, run: Training) -> Path:
    """Where the run works: in the pool, or, where that is an object store, in this machine's cache."""
    if storage.is_local:
        return Path(storage.url) / run.folder
    from training_smoke.files import cache_root

    return cache_root() / short_hash(storage.url) / run.folder
