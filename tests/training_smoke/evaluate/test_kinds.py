"""From folders to metrics for models that write, match and answer, with the controls of each."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from tests.training_smoke.evaluate.ablemodels import Answers, Judge, Writer
from tests.training_smoke.evaluate.evalsets import COLOURS, ColourModel, coloured, npy, picture, write_folder
from training_smoke.errors import TrainingError
from training_smoke.evaluate import TASKS, Effort, NotAble, evaluate, evaluate_probe, evaluate_task
from training_smoke.evaluate.folders import Folder
from training_smoke.evaluate.kinds import MAIN, abilities_of, gives, unable, used
from training_smoke.evaluate.pictures import others
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
    """Twelve and fourteen pictures of three colours in turn: a shift by half of them would show the same or another
    colour of all; of a random order about a third shows the same."""
    for count in (12, 14, 60):
        found = evaluate(Writer(), captioned(tmp_path / str(count), count))["metrics"]
        assert found["cider_blind"] < 0.1 * found["cider"]
        same = np.mean([i % 3 == other % 3 for i, other in enumerate(others(count, count // 2))])
        assert same <= 0.5
        assert found["cider_shuffled"] == pytest.approx(found["cider"] * same, rel=0.2, abs=0.3)
        assert found["rouge_l_shuffled"] < found["rouge_l"]


def test_distinct_captions(tmp_path: Path) -> None:
    metrics = evaluate(Writer(), captioned(tmp_path))["metrics"]
    assert metrics["distinct_likeliest"] == 3 / 12
    assert metrics["distinct"] == 1  # drawn ones name their picture
    assert metrics["caption_words"] == 3
    assert metrics["cider_nucleus"] < metrics["cider"]


def test_controls_of_draws(tmp_path: Path) -> None:
    """Drawn ones name colour and picture: of another picture's a third has the colour, of a grey one's none."""
    metrics = evaluate(Writer(), captioned(tmp_path, 60))["metrics"]
    assert 0 < metrics["cider_nucleus_shuffled"] < 0.5 * metrics["cider_nucleus"]
    assert 0 < metrics["cider_nucleus_blind"] < 0.5 * metrics["cider_nucleus"]


def test_likelihood_of_captions(tmp_path: Path) -> None:
    """Three nats a caption of three words, two more where the colour is wrong, as it is of every grey picture."""
    metrics = evaluate(Writer(), captioned(tmp_path, 15))["metrics"]
    wrong = np.mean([i % 3 != other % 3 for i, other in enumerate(others(15, 7))])  # whose other is of another colour
    assert 0.6 < wrong < 1
    assert metrics["caption_loss"] == pytest.approx(1)
    assert metrics["caption_loss_blind"] == pytest.approx(5 / 3)
    assert metrics["caption_loss_shuffled"] == pytest.approx(1 + wrong * 2 / 3)
    assert metrics["caption_own_picture"] == pytest.approx((1 + wrong) / 2)
    flat = evaluate(Writer(), captioned(tmp_path / "flat", flat=True))["metrics"]
    assert flat["caption_own_picture"] == 0.5  # all pictures are alike


def test_a_part_is_captioned(tmp_path: Path) -> None:
    path, model = captioned(tmp_path, 12), Writer()
    metrics = evaluate(model, path, effort=Effort(pictures=6))["metrics"]
    assert metrics["n_captioned"] == metrics["n"] == 6
    # The second is the grey one; of draws the second are of grey ones.
    assert model.asked == [("beam", 6), ("beam", 1), ("nucleus", 6), ("nucleus", 6)]
    evaluate(model, path, effort=Effort(pictures=6, beams=1))
    assert model.asked[4] == ("greedy", 6)


def test_clip_score_by_another_model(tmp_path: Path) -> None:
    metrics = evaluate(Writer(), captioned(tmp_path, 15), second=ColourModel())["metrics"]
    # a picture and the name of its colour have the same direction
    assert metrics["clipscore"] == pytest.approx(2.5, abs=1e-4)
    assert metrics["refclipscore"] == pytest.approx(2 * 2.5 / 3.5, abs=1e-4)
    assert metrics["clipscore_blind"] < 1
    assert metrics["clipscore_shuffled"] < 0.5 * metrics["clipscore"]


# ---- matching


def test_matching(tmp_path: Path) -> None:
    """A wrong pair of one colour is no wrong one for this model: about a third are."""
    record = evaluate(Judge(), captioned(tmp_path, 17))
    metrics = record["metrics"]
    assert record["task"] == "zeroshot_retrieval"
    assert metrics["main_metric"] == metrics["mean_recall@1"]
    assert (metrics["n_matched"], metrics["n_reranked"], metrics["n"]) == (17, 17, 17)
    alike = np.mean([i % 3 == other % 3 for i, other in enumerate(others(17, -5))])
    assert metrics["itm_accuracy"] == pytest.approx(1 - alike / 2)
    assert metrics["itm_auroc"] > 0.75
    assert metrics["itm_accuracy_shuffled"] < metrics["itm_accuracy"]
    assert metrics["itm_accuracy_blind"] == metrics["itm_auroc_blind"] == 0.5


def test_pairs_that_look_alike_are_not_told_apart(tmp_path: Path) -> None:
    metrics = evaluate(Judge(), captioned(tmp_path, 9, flat=True))["metrics"]
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
    assert metrics["exact_match_other_blind"] == 0  # "grey" is no answer to "what colour?"
    assert 0 < metrics["exact_match_yes_no_blind"] < 1  # "no" is to some
    assert metrics["exact_match_other_shuffled"] < 1
    assert (metrics["n"], metrics["n_pictures"]) == (21, 14)
    assert "vqa_accuracy" not in metrics  # one answer each
    assert metrics["distinct_answers"] == pytest.approx(5 / 21)


def test_answers_of_several_people(tmp_path: Path) -> None:
    people = [{"question": "What colour?", "answers": [THREE[i % 3]] * (i % 4) + ["odd"] * 4} for i in range(8)]
    metrics = evaluate(Answers(), asked(tmp_path, [[q] for q in people]))["metrics"]
    assert metrics["vqa_accuracy"] == pytest.approx(2 * (0 + 1 / 3 + 2 / 3 + 1) / 8)
    assert metrics["vqa_accuracy_blind"] == 0  # "grey" is nobody's answer
    assert 0 <= metrics["vqa_accuracy_shuffled"] < metrics["vqa_accuracy"]
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
    assert (few["n"], few["n_set"], few["templates"]) == (5, 7, 1)
    with pytest.raises(NotAble, match=r"its 3 classes .* 9 pairs .* are 3 pictures: it takes 12 pairs"):
        evaluate(Writer(), path, effort=Effort(pairs=9))


def test_classes_in_turn_have_a_control_at_chance(tmp_path: Path) -> None:
    """By vectors and by likelihood: 60 pictures of three classes in turn, of which 30 are a whole number of turns."""
    path = write_folder(tmp_path, coloured([0, 1, 2] * 20))
    for model in (ColourModel(), Writer()):
        found = evaluated(model, path)
        metrics = found.record["metrics"]
        assert metrics["acc1"] == 1
        assert 0.2 < metrics["acc1_shuffled"] < 0.5
        assert metrics["acc1_blind"] == pytest.approx(1 / 3)
        assert found.every["acc1_shuffled"].mean() == pytest.approx(metrics["acc1_shuffled"])


def test_several_classes_a_picture_have_controls(tmp_path: Path) -> None:
    rows = [{"png": picture(COLOURS[THREE[i % 3]]), "npy": npy(np.eye(3)[i % 3])} for i in range(60)]
    metrics = evaluate(ColourModel(), write_folder(tmp_path, rows, kind="multilabel"))["metrics"]
    assert metrics["mean_average_precision"] == 1
    assert metrics["mean_average_precision_blind"] == pytest.approx(1 / 3)  # all alike: as often as the class
    assert metrics["mean_average_precision_shuffled"] < 0.6


# ---- what is known before there is a model


@pytest.mark.parametrize("model", [ColourModel(), Writer(), Judge(), Answers()])
@pytest.mark.parametrize("kind", ["retrieval", "vqa", "classification", "multilabel"])
def test_a_class_says_what_its_models_are_able_to_do(tmp_path: Path, model: object, kind: str) -> None:
    """What is said of the class holds of the model: whether there are scores, and which metrics there are."""
    if kind == "retrieval":
        path = captioned(tmp_path)
    elif kind == "vqa":
        path = asked(tmp_path, colours_asked(12))
    else:
        rows = [
            {"png": picture(COLOURS[THREE[i % 3]]), "cls": str(i % 3).encode(), "npy": npy(np.eye(3)[i % 3])}
            for i in range(12)
        ]
        path = write_folder(tmp_path, rows, kind=kind)
    able = abilities_of(type(model))
    assert able == abilities_of(model)
    reason = unable(able, Folder.open(path))
    if reason is not None:
        with pytest.raises(NotAble, match=re.escape(reason)):
            evaluate(model, path)
        assert not any(gives(able, kind, main) for main in MAIN)
        return
    metrics = evaluate(model, path)["metrics"]
    assert all(gives(able, kind, name) in (True, None) for name in metrics)
    assert [name for name in MAIN if name in metrics] == [name for name in MAIN if gives(able, kind, name)]


def test_what_of_the_effort_counts(tmp_path: Path) -> None:
    writes, two, both = abilities_of(Writer), abilities_of(ColourModel), abilities_of(Judge)
    assert used(writes, "retrieval") == {"pictures", "beams", "second"}
    assert used(both, "retrieval") == {"pictures"}
    assert used(two, "retrieval") == used(two, "classification") == used(writes, "vqa") == set()
    assert used(writes, "classification") == {"pictures", "pairs"}
    assert used(abilities_of(Answers), "vqa") == {"questions"}


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


@pytest.mark.parametrize("said", [{"pictures": 0}, {"pictures": 2}, {"questions": 3}, {"pairs": 1}, {"beams": 0}])
def test_an_effort_that_measures_nothing(said: dict[str, int]) -> None:
    with pytest.raises(TrainingError, match="nothing would be measured: pictures, questions and pairs are at least 4"):
        Effort(**said)


def test_a_picture_without_captions_is_named(tmp_path: Path) -> None:
    rows = [{"png": picture(COLOURS[c]), "txt": b"" if c == "blue" else b"a thing"} for c in THREE * 2]
    with pytest.raises(TrainingError, match=r"0.tar:s0000002: .txt cannot be read: it is empty; .*or take it out"):
        evaluate(Writer(), write_folder(tmp_path, rows, kind="retrieval"))
