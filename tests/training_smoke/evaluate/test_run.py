"""From folders to results: each kind of set, tasks of DataComp with their guards, and going on where it stopped."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from tests.training_smoke.evaluate.evalsets import (
    COLOURS,
    BrokenModel,
    ColourModel,
    coloured,
    npy,
    picture,
    write_arrow,
    write_folder,
)
from training_smoke.errors import TrainingError
from training_smoke.evaluate import TASKS, Task, evaluate, evaluate_probe, evaluate_task, evaluate_tasks
from training_smoke.evaluate.run import find

RED, GREEN, BLUE = COLOURS


def sized(name: str, size: int) -> Task:
    return dataclasses.replace(TASKS[name], size=size)


def captioned(colours: list[str], captions: list[list[str]]) -> list[dict[str, bytes]]:
    return [{"png": picture(COLOURS[c]), "txt": "\n".join(t).encode()} for c, t in zip(colours, captions, strict=True)]


# ---- one set


def test_classification(tmp_path: Path) -> None:
    path = write_folder(tmp_path, coloured([0, 1, 2, 2], shown=[RED, GREEN, BLUE, RED]))
    record = evaluate(ColourModel(), path, name="colours")
    assert (record["dataset"], record["task"]) == ("colours", "zeroshot_classification")
    metrics = record["metrics"]
    assert metrics["acc1"] == metrics["main_metric"] == 0.75
    assert metrics["mean_per_class_recall"] == pytest.approx((1 + 1 + 0.5) / 3)
    assert (metrics["acc5"], metrics["n"]) == (None, 4)
    json.dumps(record, allow_nan=False)


def test_retrieval(tmp_path: Path) -> None:
    samples = captioned([RED, GREEN, BLUE], [["red", "a red cat"], ["blue"], ["blue", "green", "sky blue"]])
    metrics = evaluate(ColourModel(), write_folder(tmp_path, samples, kind="retrieval"))["metrics"]
    # images ask: red finds red, green finds "green" of the blue one first, blue finds green's "blue" first: tie
    assert metrics["text_retrieval_recall@1"] == pytest.approx(1 / 3)
    # texts ask: both reds, one of three blues right (the other belongs to the green picture), "green" wrong
    assert metrics["image_retrieval_recall@1"] == pytest.approx(4 / 6)
    assert metrics["main_metric"] == metrics["mean_recall@1"] == pytest.approx(0.5)
    assert metrics["n"] == 3


def test_multilabel(tmp_path: Path) -> None:
    samples = [
        {"png": picture(COLOURS[c]), "npy": npy(y)}
        for c, y in [(RED, [1, 0, 0]), (BLUE, [0, 0, 1]), (GREEN, [0, 1, 0])]
    ]
    metrics = evaluate(ColourModel(), write_folder(tmp_path, samples, kind="multilabel"))["metrics"]
    assert metrics["main_metric"] == metrics["mean_average_precision"] == 1
    wrong = [{**samples[0], "npy": npy([1, 0])}]
    with pytest.raises(TrainingError, match=r"labels say 2 classes, classnames.txt says 3"):
        evaluate(ColourModel(), write_folder(tmp_path / "wrong", wrong, kind="multilabel", shards=1))


def test_probe(tmp_path: Path) -> None:
    path = write_folder(tmp_path, coloured([0, 1, 2] * 2), classnames=["x", "y", "z"])  # names say nothing
    write_folder(tmp_path, coloured([0, 1, 2] * 10), split="train", classnames=["x", "y", "z"])
    found = evaluate_probe(ColourModel(), path, neighbours=5)
    assert (found["lp_acc1"], found["knn_acc1"], found["lp_converged"]) == (1, 1, True)
    assert evaluate(ColourModel(), path)["metrics"]["acc1"] == pytest.approx(1 / 3)


def test_an_empty_set(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no samples"):
        evaluate(ColourModel(), write_folder(tmp_path, [], shards=1))


# ---- the 38


def test_a_task_knows_its_main_metric(tmp_path: Path) -> None:
    shown = [RED, RED, GREEN, BLUE, RED]
    write_folder(tmp_path / "wds_vtab-pets_test", coloured([0, 0, 1, 2, 2], shown))
    record = evaluate_task(ColourModel(), sized("Oxford-IIIT Pet", 5), str(tmp_path))
    assert (record["key"], record["dataset"]) == ("vtab/pets", "Oxford-IIIT Pet")
    assert record["metrics"]["main_metric"] == pytest.approx((1 + 1 + 0.5) / 3)
    assert record["metrics"]["acc1"] == 0.8


def test_a_set_that_is_not_whole_has_no_score(tmp_path: Path) -> None:
    write_folder(tmp_path / "wds_mnist", coloured([0, 1]))
    with pytest.raises(TrainingError, match="wds_mnist holds 2 of the 10,000 samples of MNIST"):
        evaluate_task(ColourModel(), TASKS["MNIST"], str(tmp_path))


def test_a_set_of_another_kind(tmp_path: Path) -> None:
    write_folder(tmp_path / "wds_flickr30k", coloured([0, 1]))
    with pytest.raises(TrainingError, match=r"wds_flickr30k gives acc1, .*, but Flickr is measured by mean_recall@1"):
        evaluate_task(ColourModel(), TASKS["Flickr"], str(tmp_path))


def test_a_set_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="has no wds_mnist_test or wds_mnist"):
        find(TASKS["MNIST"], str(tmp_path))


@pytest.mark.parametrize("name", ["FMoW", "GeoDE"])
def test_worst_group_counts_all_and_says_what_it_is_without_small_ones(tmp_path: Path, name: str) -> None:
    """Groups: 0 is right throughout, 1 in 90 of 120, and 5, of four pictures, never."""
    labels = [0] * 100 + [1] * 120 + [2] * 4
    shown = [RED] * 100 + [GREEN] * 90 + [BLUE] * 30 + [RED] * 4
    groups = [0] * 100 + [1] * 120 + [5] * 4
    samples = [s | {"npy": npy([g, 9])} for s, g in zip(coloured(labels, shown), groups, strict=True)]
    write_folder(tmp_path / TASKS[name].folders[0], samples)
    metrics = evaluate_task(ColourModel(), sized(name, 224), str(tmp_path))["metrics"]
    main = TASKS[name].main_metric
    assert metrics["main_metric"] == metrics[main] == 0
    assert metrics[f"{main}_min100"] == 0.75


def test_worst_group_of_small_groups_only(tmp_path: Path) -> None:
    names = [*COLOURS, "x", "y", "z"]
    samples = [s | {"npy": npy([i])} for i, s in enumerate(coloured([0, 1], [RED, BLUE]))]
    write_folder(tmp_path / "wds_dollar_street_test", samples, classnames=names)
    metrics = evaluate_task(ColourModel(), sized("Dollar Street", 2), str(tmp_path))["metrics"]
    assert metrics["main_metric"] == metrics["acc_top5_wg"] == 0.0  # green is the last of six for the blue one
    assert metrics["acc_top5_wg_min100"] is None


def test_groups_are_needed_where_they_are_the_point(tmp_path: Path) -> None:
    write_folder(tmp_path / "wds_geode_test", coloured([0]), shards=1)
    with pytest.raises(TrainingError, match="acc_wg needs groups"):
        evaluate_task(ColourModel(), sized("GeoDE", 1), str(tmp_path))


def test_retrieval_from_either_layout(tmp_path: Path) -> None:
    rows = [{"image": {"bytes": picture(c), "path": None}, "caption": [n, f"a {n} one"]} for n, c in COLOURS.items()]
    write_arrow(tmp_path / "a" / TASKS["Flickr"].folders[0] / "TEST" / "flickr-test.arrow", rows)
    samples = captioned([*COLOURS], [[n, f"a {n} one"] for n in COLOURS])
    write_folder(tmp_path / "b" / "wds_flickr30k", samples, kind="retrieval")
    one, other = (evaluate_task(ColourModel(), sized("Flickr", 3), str(tmp_path / root)) for root in "ab")
    assert one == other
    assert one["metrics"]["main_metric"] == 1


def test_winogavil_encodes_a_picture_once(tmp_path: Path) -> None:
    def row(cue: str, candidates: list[str], associations: list[str]) -> dict:
        images = [{"bytes": picture(COLOURS[c]), "path": None} for c in candidates]
        return {"cue": cue, "candidates": candidates, "candidate_images": images, "associations": associations}

    rows = [row(RED, [BLUE, RED, GREEN] * 4, [RED]), row(BLUE, [RED, BLUE, BLUE, RED, GREEN], [GREEN, RED])]
    write_arrow(tmp_path / "winogavil" / "winogavil-test.arrow", rows)
    model = ColourModel()
    metrics = evaluate_task(model, sized("WinoGAViL", 2), str(tmp_path))["metrics"]
    assert metrics["main_metric"] == metrics["jaccard_score_12"] == 1
    assert metrics["jaccard_score_5"] == 0.2  # of three, both blues are taken and one of the others
    assert model.pictures_seen == 3


def test_all_that_is_there_and_why_the_rest_is_not(tmp_path: Path) -> None:
    root, results = tmp_path / "evalsets", tmp_path / "run" / "results.jsonl"
    write_folder(root / "wds_mnist_test", coloured([0, 1, 2]))
    write_folder(root / "wds_vtab-svhn_test", coloured([0, 1]))
    write_folder(root / "wds_gtsrb_test", coloured([0, 7], shown=[RED, RED]))
    tasks = [sized("MNIST", 3), TASKS["SVHN"], sized("GTSRB", 2), TASKS["EuroSAT"]]
    summary, why = evaluate_tasks(ColourModel(), str(root), results, checkpoint="abc", tasks=tasks)
    assert summary.scores == {"MNIST": 1.0}
    assert summary.average is None
    assert {"SVHN", "GTSRB", "EuroSAT"} < set(summary.missing)
    assert why.keys() == {"SVHN", "GTSRB", "EuroSAT"}
    assert "holds 2 of the 26,032" in why["SVHN"]
    assert "labels run from 0 to 7" in why["GTSRB"]
    assert "has no wds_vtab-eurosat_test" in why["EuroSAT"]
    (line,) = map(json.loads, results.read_text().splitlines())
    assert (line["key"], line["dataset"], line["checkpoint"]) == ("mnist", "MNIST", "abc")


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    root, results = tmp_path / "evalsets", tmp_path / "results.jsonl"
    write_folder(root / "wds_mnist_test", coloured([0, 1, 2]))
    first, again = ColourModel(), ColourModel()
    tasks = [sized("MNIST", 3), sized("STL-10", 2)]
    evaluate_tasks(first, str(root), results, checkpoint="abc", tasks=tasks)
    write_folder(root / "wds_stl10_test", coloured([0, 1]))
    summary, why = evaluate_tasks(again, str(root), results, checkpoint="abc", tasks=tasks)
    assert (first.pictures_seen, again.pictures_seen) == (3 + 1, 2 + 1)  # and a grey one for the control
    assert (summary.scores, why) == ({"MNIST": 1.0, "STL-10": 1.0}, {})
    with pytest.raises(TrainingError, match="has results of checkpoint abc, not def"):
        evaluate_tasks(ColourModel(), str(root), results, checkpoint="def", tasks=tasks)


def test_a_diverged_model_has_no_scores(tmp_path: Path) -> None:
    write_folder(tmp_path / "wds_mnist_test", coloured([0, 1, 2]))
    tasks = [sized("MNIST", 3)]
    summary, why = evaluate_tasks(BrokenModel(), str(tmp_path), tmp_path / "r.jsonl", checkpoint="abc", tasks=tasks)
    assert (summary.scores, list(why)) == ({}, ["MNIST"])
    assert "NaN" in why["MNIST"]
    assert not (tmp_path / "r.jsonl").exists()


def test_a_set_by_its_features_and_by_its_pictures_agree(tmp_path: Path) -> None:
    """The same numbers come from the measures on features as from the whole path."""
    from training_smoke.evaluate.encode import encode_texts
    from training_smoke.evaluate.folders import Folder
    from training_smoke.evaluate.measures import classifier, encode
    from training_smoke.evaluate.zero_shot import predict

    folder = Folder.open(write_folder(tmp_path, coloured([0, 1, 2, 0], shown=[RED, BLUE, BLUE, GREEN])))
    model = ColourModel()
    encoded, head = encode(model, folder.samples()), classifier(model, folder)
    by_features = predict(encoded.features, head, np.asarray(encoded.answers)).metrics()
    assert by_features.items() <= evaluate(model, folder)["metrics"].items()
    assert head.shape == (3, 3)
    assert encode_texts(model, ["red"]).shape == (1, 3)
