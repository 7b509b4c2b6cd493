"""Families trained at `tiny` on Flickr8k: the pack, the held-out sets, and runs that are kept and not done twice.

    for case, found in gathered([Case("coca", 4000), Case("coca", 4000, blind=True)]):
        found.metrics["flickr8k/cider"], found.train_s

Every training picture stands in the pack with each of its five captions. Held out are Flickr8k's test and development
pictures, with their captions, and as pictures with questions that are made of all five captions of each, sure answers
only. A run's folder is named by all that decides its numbers, the source of training_smoke/ with it.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from common import SHARED, WORK, curate, each
from judge_data import Picture, by_chance, row, small, split, write_held_out, write_table

FOLDER = WORK / "families"
FIRST = 4000
"""The first seed that is shown: nothing was settled on it or those that follow."""
CAPTIONS, QUESTIONS = "flickr8k", "questions"
QUICK_PICTURES, QUICK_HELD_OUT, QUICK_STEPS, QUICK_BATCH = 400, 60, 2, 32
RECIPE: dict[str, Any] = {
    "recipe": "all_captions",
    "shard_size": 5000,
    "source": {"name": "pairs", "kind": "parquet", "uid": "uid", "text": "caption", "url": None},
    "ingest": {"resize": "short", "side": 64, "format": "png"},
    "pack": {"samples": 5000},
}


@dataclass(frozen=True)
class Data:
    """Where all lies; pictures: that are trained on, held_out: that are not."""

    pack: Path
    sets: dict[str, Path]
    pictures: int
    held_out: int


@dataclass(frozen=True)
class Case:
    """One training and its evaluation. blind: it never sees a picture. quick: a few steps of a few pictures."""

    family: str
    seed: int = FIRST
    blind: bool = False
    quick: bool = False

    @property
    def name(self) -> str:
        return f"{self.family} {self.seed}{' blind' if self.blind else ''}"


@dataclass(frozen=True)
class Found:
    """metrics: "<set>/<name>"; train_s, evaluate_s: by the wall clock, on one thread, beside another run; cpu_s: of
    both. loss: the last in training."""

    metrics: dict[str, float]
    train_s: float
    evaluate_s: float
    cpu_s: float
    loss: float

    @property
    def seconds(self) -> float:
        return self.train_s + self.evaluate_s


# ---------------------------------------------------------------- data


def data(quick: bool = False) -> Data:
    """Made once a folder of the benchmark."""
    folder = FOLDER / ("data-quick" if quick else "data")
    marker = folder / "data.json"
    if not marker.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        held, free, _ = split("flickr8k", SHARED)
        if quick:
            held, free = (chance(pictures)[:n] for pictures, n in ((held, QUICK_HELD_OUT), (free, QUICK_PICTURES)))
        pack = packed(folder, free)
        sets = {CAPTIONS: write_held_out(folder / CAPTIONS, "flickr8k", held), QUESTIONS: questions(folder, held)}
        said = {"pack": str(pack), "sets": {n: str(p) for n, p in sets.items()}}
        marker.write_text(json.dumps(said | {"pictures": len(free), "held_out": len(held)}))
    said = json.loads(marker.read_text())
    sets = {name: Path(path) for name, path in said["sets"].items()}
    return Data(Path(said["pack"]), sets, said["pictures"], said["held_out"])


def chance(pictures: Sequence[Picture]) -> list[Picture]:
    return sorted(pictures, key=lambda p: by_chance({"key": p.key}))


def packed(folder: Path, pictures: Sequence[Picture]) -> Path:
    """The folder of the pack, by `curate run`."""
    rows = [row(p, caption, "clean") for p in pictures for caption in p.captions]
    source = RECIPE["source"] | {"path": str(write_table(folder / "pairs.parquet", rows))}
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE | {"pool": str(folder / "pool"), "source": source}))
    curate("run", str(recipe), "--executor", "inline", "--quiet")
    return next((folder / "pool" / "packs").glob("*/manifest.json")).parent


def questions(folder: Path, pictures: Sequence[Picture]) -> Path:
    """A set of kind "vqa": what all five captions of a picture answer surely, as often yes as no."""
    from training_smoke.questions import balanced, sure_questions

    made = folder / QUESTIONS
    (made / "test").mkdir(parents=True)
    (made / "dataset_type.txt").write_text("vqa\n")
    (made / "test" / "nshards.txt").write_text("1\n")
    asked = 0
    with tarfile.open(made / "test" / "0.tar", "w") as tar:
        about = balanced([sure_questions(p.captions) for p in pictures])
        for number, (picture, pairs) in enumerate(zip(pictures, about, strict=True)):
            if not (found := [{"question": question, "answers": [answer]} for question, answer in pairs]):
                continue
            asked += len(found)
            for suffix, content in (("png", small(picture.image)), ("json", json.dumps(found).encode())):
                member = tarfile.TarInfo(f"{number:06d}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    print(f"questions: {asked:,} about {len(pictures):,} pictures", flush=True)
    return made


# ---------------------------------------------------------------- runs


def gathered(cases: Sequence[Case]) -> Iterator[tuple[Case, Found]]:
    """Two at a time, each on one thread; those that were done before are read."""
    for quick in {case.quick for case in cases}:
        data(quick)
    for case, found in each(replicate, cases):
        print(f"{case.name}: trained {found.train_s:.0f} s, evaluated {found.evaluate_s:.0f} s", flush=True)
        yield case, found


def replicate(case: Case) -> Found:
    """Train and evaluate, or read what came of it."""
    folder = folder_of(case)
    if not (folder / "found.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        found = done(case, folder)
        (folder / "found.json").write_text(json.dumps(asdict(found)))
        shutil.rmtree(folder / "checkpoints")
    return Found(**json.loads((folder / "found.json").read_text()))


def done(case: Case, folder: Path) -> Found:
    import torch

    from training_smoke.evaluate.encoders import able
    from training_smoke.packs import Pack
    from training_smoke.towers_file import save_model
    from training_smoke.train import train
    from training_smoke.writers import read_metrics

    torch.set_num_threads(1)
    config, pack = config_of(case), Pack.open(str(data(case.quick).pack))
    began, cpu = time.monotonic(), time.process_time()
    model = train(folder, config, {pack: 1.0}, device="cpu")
    trained = time.monotonic()
    save_model(folder / "towers.pt", model, config, {})
    metrics = evaluated(able(model), case)
    ended = time.monotonic()
    loss = read_metrics(folder)[-1]["loss"]
    return Found(metrics, trained - began, ended - trained, time.process_time() - cpu, loss)


def evaluated(model: Any, case: Case) -> dict[str, float]:
    """All numbers of all sets that the model is able for."""
    from training_smoke.abilities import Answerer, Encoders
    from training_smoke.evaluate.run import evaluate

    sets = data(case.quick).sets
    names = [CAPTIONS, *([QUESTIONS] if isinstance(model, Answerer) else [])]
    found = {name: evaluate(model, str(sets[name]), name=name)["metrics"] for name in names}
    if isinstance(model, Encoders):
        found[CAPTIONS] |= recall_at_ten(model, sets[CAPTIONS])
    return {
        f"{name}/{metric}": float(value)
        for name, metrics in found.items()
        for metric, value in metrics.items()
        if isinstance(value, int | float)
    }


def recall_at_ten(model: Any, folder: Path) -> dict[str, float]:
    """Of both directions, with its controls: at one, so small models find too few for anything to be shown."""
    from training_smoke.evaluate.folders import Folder
    from training_smoke.evaluate.measures import encode_pairs
    from training_smoke.evaluate.pictures import rolled
    from training_smoke.evaluate.retrieval import retrieve

    pairs = encode_pairs(model, Folder.open(str(folder)), "test")
    blind = pairs.blind.expand(len(pairs.images), -1)
    found = {}
    for control, images in {"": pairs.images, "_blind": blind, "_shuffled": rolled(pairs.images)}.items():
        metrics = retrieve(images, pairs.texts, pairs.image_of_text).metrics()
        both = (metrics[f"{asked}_retrieval_recall@10"] for asked in ("image", "text"))
        found[f"mean_recall@10{control}"] = sum(both) / 2
    return found


def config_of(case: Case) -> Any:
    from training_smoke.config import scale

    config = scale("tiny", case.family).but(init_seed=case.seed, order_seed=case.seed, blind=case.blind)
    return config.but(batch=QUICK_BATCH, samples=QUICK_STEPS * QUICK_BATCH) if case.quick else config


def folder_of(case: Case) -> Path:
    """Named by what decides the numbers: configuration, pack, source."""
    from training_smoke.packs import Pack
    from training_smoke.provenance import source_digest

    pack = Pack.open(str(data(case.quick).pack)).digest
    decided = json.dumps([config_of(case).as_json(), pack, source_digest()], sort_keys=True)
    return FOLDER / "runs" / f"{case.name.replace(' ', '-')}-{hashlib.sha256(decided.encode()).hexdigest()[:12]}"
