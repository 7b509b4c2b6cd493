"""What stands behind a metric of each item has that metric as its mean, so that items can be drawn again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.training_smoke.evaluate.evalsets import (
    COLOURS,
    ColourModel,
    coloured,
    npy,
    picture,
    write_arrow,
    write_folder,
)
from training_smoke.evaluate.folders import Folder
from training_smoke.evaluate.measures import (
    associate,
    classification,
    items_of_classes,
    items_of_pictures,
    multilabel,
    retrieval,
)
from training_smoke.evaluate.retrieval import Retrieved
from training_smoke.evaluate.run import evaluated, evaluated_task
from training_smoke.evaluate.tables import AssociationTable
from training_smoke.evaluate.tasks import TASKS
from training_smoke.evaluate.zero_shot import Predictions
from training_smoke.statistics import bootstrap_items

RED, GREEN, BLUE = COLOURS


@pytest.mark.parametrize("seed", range(5))
def test_of_classes_of_unequal_sizes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, predicted = np.r_[np.zeros(7, int), rng.integers(0, 5, 40)], rng.integers(0, 5, 47)
    found = Predictions(labels, predicted, (labels != predicted).astype(int), classes=5)
    items, metrics = items_of_classes(found), found.metrics()
    assert items.keys() == {"acc1", "mean_per_class_recall"}
    for name, values in items.items():
        assert values.shape == (47,)
        assert values.mean() == pytest.approx(metrics[name])


@pytest.mark.parametrize("seed", range(5))
def test_of_pictures_with_unequally_many_captions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(20), rng.integers(1, 6, 20))
    found = Retrieved(images=rng.integers(0, 3, len(owner)), texts=rng.integers(0, 3, 20))
    values = items_of_pictures(found, owner)["mean_recall@1"]
    assert values.shape == (20,)
    assert values.mean() == pytest.approx(found.metrics()["mean_recall@1"])


def test_of_each_kind_of_set(tmp_path: Path) -> None:
    model = ColourModel()
    classes = Folder.open(write_folder(tmp_path / "c", coloured([0, 1, 2, 2], shown=[RED, GREEN, BLUE, RED])))
    found = classification(model, classes, "test", None)
    assert found.items["acc1"].tolist() == [1, 1, 1, 0]
    assert evaluated(model, classes).items is not None
    pairs = [
        {"png": picture(COLOURS[c]), "txt": t.encode()}
        for c, t in ((RED, "red\na red cat"), (GREEN, "blue"), (BLUE, "green"))
    ]
    captions = retrieval(model, Folder.open(write_folder(tmp_path / "r", pairs, kind="retrieval")), "test", None)
    assert captions.items["mean_recall@1"].mean() == pytest.approx(captions.metrics["mean_recall@1"])
    labels = [{"png": picture(COLOURS[RED]), "npy": npy([1, 0, 0])}]
    assert (
        multilabel(model, Folder.open(write_folder(tmp_path / "m", labels, kind="multilabel")), "test", None).items
        == {}
    )


def test_of_winogavil_those_of_the_main_metric(tmp_path: Path) -> None:
    def row(cue: str, candidates: list[str], associations: list[str]) -> dict[str, object]:
        images = [{"bytes": picture(COLOURS[c]), "path": None} for c in candidates]
        return {"cue": cue, "candidates": candidates, "candidate_images": images, "associations": associations}

    rows = [row(RED, [BLUE, RED, GREEN] * 4, [RED]), row(BLUE, [RED, BLUE, BLUE, RED, GREEN], [GREEN, RED])]
    write_arrow(tmp_path / "w" / "winogavil-test.arrow", rows)
    found = associate(ColourModel(), AssociationTable(str(tmp_path / "w")).instances())
    assert found.items["jaccard_score_10-12"].tolist() == [found.metrics["jaccard_score_10-12"]] == [1]


def test_a_worst_group_is_no_mean_over_items(tmp_path: Path) -> None:
    import dataclasses

    samples = [s | {"npy": npy([i % 2])} for i, s in enumerate(coloured([0, 1, 2, 0]))]
    write_folder(tmp_path / "wds_geode_test", samples)
    task = dataclasses.replace(TASKS["GeoDE"], size=4)
    found = evaluated_task(ColourModel(), task, str(tmp_path))
    assert found.items is None
    assert found.record["metrics"]["main_metric"] == 1
    pets = dataclasses.replace(TASKS["Oxford-IIIT Pet"], size=4)
    write_folder(tmp_path / "wds_vtab-pets_test", coloured([0, 1, 2, 0], shown=[RED, RED, BLUE, RED]))
    by_class = evaluated_task(ColourModel(), pets, str(tmp_path))
    assert by_class.items is not None
    assert by_class.items.mean() == pytest.approx(by_class.record["metrics"]["main_metric"]) == pytest.approx(2 / 3)


def test_two_models_on_the_same_items(tmp_path: Path) -> None:
    """What is paired cancels: equal models differ by nothing, whichever items are drawn."""
    folder = write_folder(tmp_path, coloured([0, 1, 2] * 20, shown=[RED, GREEN, RED] * 20))
    one, other = (evaluated(ColourModel(), folder).items for _ in range(2))
    assert one is not None
    assert other is not None
    same = bootstrap_items(one, other, seed=0)
    assert (same.mean, same.low, same.high) == (0, 0, 0)
    alone = bootstrap_items(one, np.zeros(len(one)), seed=0)
    assert alone.mean == pytest.approx(2 / 3)
    assert alone.low < alone.mean < alone.high
