"""From folders to metrics for models that write, match and answer, with the controls of each."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from tests.training_smoke.evaluate.ablemodels import Answers, Judge, Writer
from tests.training_smoke.evaluate.evalsets import COLOURS, ColourModel, coloured, picture, write_folder
from training_smoke.errors import TrainingError
from training_smoke.evaluate import TASKS, Effort, NotAble, evaluate, evaluate_probe, evaluate_task
from training_smoke.evaluate.run import evaluated

THREE = list(COLOURS)


def captioned(folder: Path, count: int = 12, flat: bool = False) -> str:
    """Pictures of three colours in turn, each with a caption that Writer would write and another."""
    shown = [THREE[0 if flat else i % 3] for i in range(count)]
    samples = [
        {"png": picture(COLOURS[c]), "txt": f"a {c} thing\nsomething {c} number {i}".encode()}
        for i, c in enumerate(shown)
    ]
    return write_folder(folder, samples, kind="retrieval")


def asked(folder: Path, questions: list[list[dict[str, object]]]) -> str:
    samples = [
        {"png": picture(COLOURS[THREE[i % 3]]), "json": json.dumps(some).encode()} for i, some in enumerate(questions)
    ]
    return write_folder(folder, samples, kind="vqa")


# ---- captions


def test_captions_of_a_model_that_only_writes(tmp_path: Path) -> None:
    model = Writer()
    record = evaluate(model, captioned(tmp_path), name="colours")
    metrics = record["metrics"]
    assert (record["dataset"], record["task"]) == ("colours", "captioning")
    assert metrics["main_metric"] == metrics["cider"] > 4
    assert metrics["bleu4"] == 0  # three words have no four in a row
    assert (metrics["bleu1"], metrics["bleu3"]) == (1, 1)
    assert metrics["rouge_l"] == 1
    assert metrics["n"] == metrics["n_captioned"] == 12
    assert "mean_recall@1" not in metrics
    assert "itm_accuracy" not in metrics
    json.dumps(record, allow_nan=False)


def test_controls_of_captions(tmp_path: Path) -> None:
    """Half of twelve pictures is two turns of three colours, so that rolled pictures look the same; of fourteen not."""
    found = evaluate(Writer(), captioned(tmp_path / "a"))["metrics"]
    assert found["cider_shuffled"] == found["cider"]
    assert found["cider_blind"] < 0.1 * found["cider"]
    found = evaluate(Writer(), captioned(tmp_path / "b", 14))["metrics"]
    assert found["cider_shuffled"] < 0.5 * found["cider"]
    assert found["rouge_l_shuffled"] < found["rouge_l"]


def test_distinct_captions(tmp_path: Path) -> None:
    metrics = evaluate(Writer(), captioned(tmp_path))["metrics"]
    assert metrics["distinct_likeliest"] == 3 / 12
    assert metrics["distinct"] == 1  # drawn ones name their picture
    assert metrics["caption_words"] == 3
    assert metrics["cider_nucleus"] < metrics["cider"]


def test_likelihood_of_captions(tmp_path: Path) -> None:
    """Three nats a caption of three words, two more where the colour is wrong, as it is of every grey picture."""
    metrics = evaluate(Writer(), captioned(tmp_path, 15))["metrics"]  # rolled by 7: every colour is another
    assert metrics["caption_loss"] == pytest.approx(1)
    assert metrics["caption_loss_shuffled"] == metrics["caption_loss_blind"] == pytest.approx(5 / 3)
    assert metrics["caption_own_picture"] == 1
    flat = evaluate(Writer(), captioned(tmp_path / "flat", flat=True))["metrics"]
    assert flat["caption_own_picture"] == 0.5  # all pictures are alike


def test_a_part_is_captioned(tmp_path: Path) -> None:
    path, model = captioned(tmp_path, 12), Writer()
    metrics = evaluate(model, path, effort=Effort(pictures=6))["metrics"]
    assert metrics["n_captioned"] == metrics["n"] == 6
    assert model.asked == [("beam", 6), ("beam", 1), ("nucleus", 6)]  # the second is the grey one
    evaluate(model, path, effort=Effort(pictures=6, beams=1))
    assert model.asked[3] == ("greedy", 6)


def test_clip_score_by_another_model(tmp_path: Path) -> None:
    metrics = evaluate(Writer(), captioned(tmp_path, 15), second=ColourModel())["metrics"]
    # a picture and the name of its colour have the same direction
    assert metrics["clipscore"] == pytest.approx(2.5, abs=1e-4)
    assert metrics["refclipscore"] == pytest.approx(2 * 2.5 / 3.5, abs=1e-4)
    assert metrics["clipscore_shuffled"] < metrics["clipscore_blind"] < 1


# ---- matching


def test_matching(tmp_path: Path) -> None:
    """A third of 17 pictures is five: wrong pairs are of two colours."""
    record = evaluate(Judge(), captioned(tmp_path, 17))
    metrics = record["metrics"]
    assert record["task"] == "zeroshot_retrieval"
    assert metrics["main_metric"] == metrics["mean_recall@1"]
    assert (metrics["n_matched"], metrics["n_reranked"], metrics["n"]) == (17, 17, 17)
    assert metrics["itm_accuracy"] > 0.85
    assert metrics["itm_auroc"] > 0.85
    assert metrics["itm_accuracy_shuffled"] < metrics["itm_accuracy"]
    assert metrics["itm_accuracy_blind"] == metrics["itm_auroc_blind"] == 0.5


def test_pairs_that_look_alike_are_not_told_apart(tmp_path: Path) -> None:
    """A third of nine pictures is one turn of three colours."""
    metrics = evaluate(Judge(), captioned(tmp_path, 9))["metrics"]
    assert metrics["itm_accuracy"] == metrics["itm_auroc"] == 0.5


def test_reranking_by_hand(tmp_path: Path) -> None:
    """Six pictures. Vectors know red from the rest: retrieval is right for the first red, for the first that is none,
    and texts the same; matches know all three, and each colour's first picture is found."""
    metrics = evaluate(Judge(), captioned(tmp_path, 6))["metrics"]
    assert metrics["retrieved_mean_recall@1"] == pytest.approx(2 / 6)
    assert metrics["reranked_mean_recall@1"] == pytest.approx(3 / 6)
    assert metrics["reranked_mean_recall@1_blind"] == pytest.approx(1 / 6)
    narrow = evaluate(Judge(), captioned(tmp_path, 6), effort=Effort(k=1, queries=3))["metrics"]
    assert narrow["reranked_mean_recall@1"] == narrow["retrieved_mean_recall@1"]
    assert narrow["n_reranked"] == 3


# ---- questions


def colours_asked(count: int) -> list[list[dict[str, object]]]:
    return [
        [
            {"question": "What colour is it?", "answers": [THREE[i % 3]]},
            {"question": "Is it red?", "answers": ["yes" if i % 3 == 0 else "no"]},
        ][: 1 + i % 2]
        for i in range(count)
    ]


def test_questions(tmp_path: Path) -> None:
    found = evaluated(Answers(), asked(tmp_path, colours_asked(14)))
    metrics = found.record["metrics"]
    assert found.record["task"] == "vqa"
    assert metrics["main_metric"] == metrics["exact_match"] == 1
    assert metrics["exact_match_other"] == metrics["exact_match_yes_no"] == 1
    assert metrics["exact_match_blind"] < metrics["exact_match"]
    assert metrics["exact_match_shuffled"] < metrics["exact_match"]
    assert (metrics["n"], metrics["n_pictures"]) == (21, 14)
    assert "vqa_accuracy" not in metrics  # one answer each
    assert metrics["distinct_answers"] == pytest.approx(5 / 21)


def test_answers_of_several_people(tmp_path: Path) -> None:
    people = [{"question": "What colour?", "answers": [THREE[i % 3]] * (i % 4) + ["odd"] * 4} for i in range(8)]
    metrics = evaluate(Answers(), asked(tmp_path, [[q] for q in people]))["metrics"]
    assert metrics["vqa_accuracy"] == pytest.approx(2 * (0 + 1 / 3 + 2 / 3 + 1) / 8)
    assert metrics["exact_match"] == 6 / 8


def test_a_part_of_the_questions(tmp_path: Path) -> None:
    path = asked(tmp_path, colours_asked(14))
    metrics = evaluate(Answers(), path, effort=Effort(questions=10))["metrics"]
    assert 8 <= metrics["n"] <= 10
    assert metrics["n_pictures"] < 14


# ---- classes


def test_classes_by_likelihood(tmp_path: Path) -> None:
    labels = [0, 1, 2, 0, 1, 2, 2]
    path = write_folder(tmp_path, coloured(labels, shown=[THREE[i] for i in [0, 1, 2, 0, 1, 2, 0]]))
    found = evaluated(Writer(), path)
    metrics = found.record["metrics"]
    assert found.record["task"] == "zeroshot_classification"
    assert metrics["main_metric"] == metrics["acc1"] == pytest.approx(6 / 7)
    assert metrics["acc1_per_token"] == metrics["acc1_over_blind"] == pytest.approx(6 / 7)
    assert metrics["acc1_blind"] == pytest.approx(2 / 7)  # all prompts alike: the first class
    assert (metrics["n"], metrics["templates"]) == (7, 2)
    # two nats: the right one of three is taken with 1 / (1 + 2 e^-2); the last, whose picture is red, with e^-2 of that
    right = -np.log(1 / (1 + 2 * np.exp(-2)))
    assert metrics["loss"] == pytest.approx(right + 2 / 7)
    few = evaluate(Writer(), path, effort=Effort(pictures=5, pairs=16))["metrics"]
    assert (few["n"], few["templates"]) == (5, 1)


# ---- what every measurement promises


@pytest.mark.parametrize("kind", ["captions", "matching", "questions", "classes"])
def test_items_have_their_metric_as_mean(tmp_path: Path, kind: str) -> None:
    if kind == "questions":
        found = evaluated(Answers(), asked(tmp_path, colours_asked(14)))
    elif kind == "classes":
        found = evaluated(Writer(), write_folder(tmp_path, coloured([0, 1, 2, 0, 1])))
    else:
        found = evaluated(Writer() if kind == "captions" else Judge(), captioned(tmp_path, 13))
    assert found.items is not None
    assert found.items.mean() == pytest.approx(found.record["metrics"]["main_metric"])
    for name, values in found.every.items():
        assert values.dtype == np.float64
        assert values.mean() == pytest.approx(found.record["metrics"][name]), name
    assert {name for name in found.every if name.endswith(("_blind", "_shuffled"))}


@pytest.mark.parametrize("kind", ["retrieval", "vqa", "classification", "multilabel"])
def test_a_model_that_can_do_nothing_of_it(tmp_path: Path, kind: str) -> None:
    if kind == "vqa":
        path, model = asked(tmp_path, colours_asked(5)), ColourModel()
    elif kind == "retrieval":
        path, model = captioned(tmp_path), Answers()  # type: ignore[assignment]
    else:
        path = write_folder(tmp_path, coloured([0, 1]), kind=kind)
        model = Answers() if kind == "classification" else Writer()  # type: ignore[assignment]
    with pytest.raises(NotAble, match="the model"):
        evaluate(model, path)


def test_tasks_and_probes_need_vectors(tmp_path: Path) -> None:
    write_folder(tmp_path / "wds_mnist", coloured([0, 1]))
    with pytest.raises(NotAble, match="MNIST is measured by vectors"):
        evaluate_task(Writer(), TASKS["MNIST"], str(tmp_path))
    with pytest.raises(NotAble, match="probes"):
        evaluate_probe(Writer(), str(tmp_path / "wds_mnist"))


class Looks(Writer):
    """Has vectors of pictures, and none of texts."""

    def image_vectors(self, images: Tensor) -> Tensor:
        return images.float().mean((2, 3)) / 255 - 0.3


def test_probes_of_a_model_with_vectors_of_pictures_alone(tmp_path: Path) -> None:
    path = write_folder(tmp_path, coloured([0, 1, 2] * 2))
    write_folder(tmp_path, coloured([0, 1, 2] * 10), split="train")
    found = evaluate_probe(Looks(), path, neighbours=5)
    assert (found["lp_acc1"], found["knn_acc1"]) == (1, 1)
    assert found == evaluate_probe(ColourModel(), path, neighbours=5)


def test_too_few_pictures(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="3 pictures are too few"):
        evaluate(Writer(), captioned(tmp_path, 3))


def test_an_effort_that_measures_nothing() -> None:
    with pytest.raises(TrainingError, match="nothing would be measured"):
        Effort(pictures=0)
