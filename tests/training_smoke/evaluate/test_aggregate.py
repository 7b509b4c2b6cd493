"""DataComp's table and score: published rows are reproduced, and nothing is averaged over fewer than all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from training_smoke.errors import TrainingError
from training_smoke.evaluate.aggregate import Record, difference, read_results, summarise, write_results
from training_smoke.evaluate.tasks import IMAGENET_SHIFTS, RETRIEVAL, TASKS, VTAB, WORST_GROUP

# open_clip, docs/openclip_results.csv: ViT-H-14-378-quickgelu, dfn5b
PUBLISHED_AVERAGE = 0.7079
PUBLISHED = {
    "ImageNet 1k": 0.8437, "Caltech-101": 0.9517, "CIFAR-10": 0.9880, "CIFAR-100": 0.9043, "CLEVR Counts": 0.3596,
    "CLEVR Distance": 0.2085, "Country211": 0.3787, "Describable Textures": 0.7106, "EuroSAT": 0.6133,
    "FGVC Aircraft": 0.7219, "Food-101": 0.9623, "GTSRB": 0.6782, "ImageNet Sketch": 0.7324, "ImageNet v2": 0.7833,
    "ImageNet-A": 0.7964, "ImageNet-O": 0.3810, "ImageNet-R": 0.9376, "KITTI Vehicle Distance": 0.3966,
    "MNIST": 0.8364, "ObjectNet": 0.7340, "Oxford Flowers-102": 0.8935, "Oxford-IIIT Pet": 0.9696,
    "Pascal VOC 2007": 0.8241, "PatchCamelyon": 0.6964, "Rendered SST2": 0.5546, "RESISC45": 0.7589,
    "Stanford Cars": 0.9598, "STL-10": 0.9906, "SUN397": 0.7733, "SVHN": 0.6739, "Flickr": 0.8801, "MSCOCO": 0.6376,
    "WinoGAViL": 0.5674, "iWildCam": 0.2205, "Camelyon17": 0.7211, "FMoW": 0.2075, "Dollar Street": 0.7173,
    "GeoDE": 0.9349,
}  # fmt: skip


def records(scores: dict[str, float | None]) -> list[Record]:
    return [{"dataset": name, "metrics": {"main_metric": score}} for name, score in scores.items()]


def test_the_table() -> None:
    assert len(TASKS) == 38
    assert (len(IMAGENET_SHIFTS), len(VTAB), len(RETRIEVAL)) == (6, 13, 3)
    assert TASKS.keys() >= IMAGENET_SHIFTS | VTAB | RETRIEVAL
    assert all(0 < task.chance < 1 and task.size > 0 for task in TASKS.values())
    metrics = [task.main_metric for task in TASKS.values()]
    assert metrics.count("acc1") == 27  # with Camelyon17
    assert metrics.count("mean_per_class_recall") == 4
    assert set(metrics) - {"acc1", "mean_per_class_recall"} == {
        *WORST_GROUP,
        "mean_recall@1",
        "jaccard_score_10-12",
        "F1-macro_all",
    }
    assert sum(task.size for task in TASKS.values()) + 10954 + 23703 == pytest.approx(732_000, rel=0.01)


@pytest.mark.parametrize(
    ("name", "folders"),
    [
        ("Caltech-101", ("wds_vtab-caltech101_test", "wds_vtab-caltech101")),
        ("CIFAR-10", ("wds_cifar10_test", "wds_cifar10", "wds_vtab-cifar10")),
        ("GeoDE", ("wds_geode_test", "wds_geode")),
        ("FMoW", ("wds_wilds-fmow_test", "wds_wilds-fmow")),
        ("Flickr", ("hf_cache/nlphuji___flickr_1k_test_image_text_retrieval", "wds_flickr30k")),
        ("WinoGAViL", ("hf_cache/nlphuji___winogavil", "winogavil")),
    ],
)
def test_where_sets_lie(name: str, folders: tuple[str, ...]) -> None:
    assert TASKS[name].folders == folders


def test_a_published_average() -> None:
    found = summarise(records(PUBLISHED))
    assert found.n_tasks == 38
    assert found.missing == ()
    assert found.average == pytest.approx(PUBLISHED_AVERAGE, abs=5e-5)
    assert found.imagenet == 0.8437
    shifts = ["ImageNet Sketch", "ImageNet v2", "ImageNet-A", "ImageNet-O", "ImageNet-R", "ObjectNet"]
    assert found.imagenet_shifts == pytest.approx(sum(PUBLISHED[s] for s in shifts) / 6)
    assert found.retrieval == pytest.approx((0.8801 + 0.6376 + 0.5674) / 3)
    assert found.above_chance is not None
    assert found.above_chance < PUBLISHED_AVERAGE
    assert found.near_chance == ()


def test_order_and_further_sets_do_not_matter() -> None:
    more: dict[str, float | None] = {"FairFace": None, "my own": 0.9, **dict(reversed(PUBLISHED.items()))}
    assert summarise(records(more)) == summarise(records(dict(PUBLISHED)))


@pytest.mark.parametrize("lacking", ["MNIST", "ImageNet-A", "Flickr", "SUN397", "ImageNet 1k"])
def test_what_is_missing_is_named_and_never_averaged_away(lacking: str) -> None:
    found = summarise(records({k: v for k, v in PUBLISHED.items() if k != lacking}))
    assert (found.n_tasks, found.missing) == (37, (lacking,))
    assert found.average is None
    assert found.above_chance is None
    assert (found.imagenet is None) == (lacking == "ImageNet 1k")
    assert (found.imagenet_shifts is None) == (lacking in IMAGENET_SHIFTS)
    assert (found.vtab is None) == (lacking in VTAB)
    assert (found.retrieval is None) == (lacking in RETRIEVAL)


def test_guessing_is_zero_above_chance_and_perfection_is_one() -> None:
    guessed = summarise(records({name: task.chance for name, task in TASKS.items()}))
    assert guessed.above_chance == pytest.approx(0)
    assert guessed.near_chance == tuple(TASKS)
    assert summarise(records(dict.fromkeys(TASKS, 1.0))).above_chance == 1


def test_near_chance_is_a_matter_of_size() -> None:
    """At one point above chance, KITTI's 711 pictures say nothing, SVHN's 26,032 do."""
    found = summarise(records({name: TASKS[name].chance + 0.01 for name in ("KITTI Vehicle Distance", "SVHN")}))
    assert found.near_chance == ("KITTI Vehicle Distance",)


def test_difference_is_by_task_and_only_over_the_same_sets() -> None:
    a = summarise(records({"MNIST": 0.5, "SVHN": 0.4}))
    b = summarise(records({"SVHN": 0.1, "MNIST": 0.2}))
    assert difference(a, b) == {"MNIST": pytest.approx(0.3), "SVHN": pytest.approx(0.3)}
    with pytest.raises(TrainingError, match="only one of the two was evaluated on EuroSAT, MNIST"):
        difference(a, summarise(records({"SVHN": 0.1, "EuroSAT": 0.2})))


def test_scores_that_cannot_be() -> None:
    with pytest.raises(TrainingError, match="MNIST has two scores"):
        summarise(records({"MNIST": 0.5}) + records({"MNIST": 0.6}))
    assert summarise(records({"MNIST": 0.5}) * 2).scores == {"MNIST": 0.5}
    for score in (31.4, -0.1, float("nan")):
        with pytest.raises(TrainingError, match=r"MNIST: the main metric is"):
            summarise(records({"MNIST": score}))


def test_results_are_kept_as_lines(tmp_path: Path) -> None:
    path = tmp_path / "run" / "results.jsonl"
    assert read_results(path) == []
    write_results(path, records({"MNIST": 0.5, "SVHN": 0.25}))
    assert [json.loads(line)["dataset"] for line in path.read_text().splitlines()] == ["MNIST", "SVHN"]
    assert read_results(path) == records({"MNIST": 0.5, "SVHN": 0.25})
    assert [p.name for p in path.parent.iterdir()] == ["results.jsonl"]


@pytest.mark.parametrize("line", ['{"dataset": "MNIST", "metr', "[]", "{}", '{"dataset": "MNIST", "metrics": 3}'])
def test_lines_that_are_no_results(tmp_path: Path, line: str) -> None:
    path = tmp_path / "results.jsonl"
    write_results(path, records({"MNIST": 0.5}))
    path.write_text(path.read_text() + line)
    with pytest.raises(TrainingError, match="line 2 is no result"):
        read_results(path)
