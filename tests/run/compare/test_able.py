"""What a family cannot be judged on is told of its class, before anything is trained."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml
from compared import build_pool, held_out

from curate.errors import UserError
from curate.recipe import load_recipe
from curate.run.compare.able import able_sets, check_primary, check_probe
from curate.run.compare.main import compare
from curate.run.compare.request import Said, make_request
from curate.run.compare.sets import EvalSet, open_sets
from curate.run.progress import Telling

pytest.importorskip("transformers", reason="families need the extra `models`")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """sets/scenes, sets/colours, sets/asked: captions, classes and questions; evalsets/wds_mnist_test: DataComp's, with
    a train/; pool."""
    folder = tmp_path_factory.mktemp("able")
    scenes, colours = held_out(folder / "sets", 12)
    shutil.copytree(scenes, folder / "sets" / "asked")
    (folder / "sets" / "asked" / "dataset_type.txt").write_text("vqa\n")
    mnist = folder / "evalsets" / "wds_mnist_test"
    shutil.copytree(colours, mnist)
    shutil.copytree(colours / "test", mnist / "train")
    return folder


def kept(root: Path, family: str, *names: str) -> tuple[list[EvalSet], dict[str, str]]:
    sets, _ = open_sets([str(root / name) for name in names])
    return able_sets(family, sets, {})


@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("clip", {"scenes", "colours", "MNIST"}),
        ("meru", {"scenes", "colours", "MNIST"}),
        ("coca", {"scenes", "colours", "MNIST"}),
        ("albef", {"scenes", "colours", "MNIST"}),
        ("caption", {"scenes", "colours"}),
        ("llava", {"scenes", "colours", "asked"}),
    ],
)
def test_of_a_family_what_it_can_do_is_kept_and_the_rest_is_named(root: Path, family: str, names: set[str]) -> None:
    sets, missing = kept(root, family, "sets", "evalsets")
    assert {s.name for s in sets} == names
    assert missing.keys() == {"scenes", "colours", "asked", "MNIST"} - names
    if "MNIST" in missing:
        assert missing["MNIST"] == f"it is measured by vectors of pictures and texts; {family} has none"
    if "asked" in missing:
        assert "asks questions, and the model answers none" in missing["asked"]


def test_more_classes_than_are_told_by_likelihood(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "sets" / "colours", tmp_path / "many")
    (tmp_path / "many" / "classnames.txt").write_text("".join(f"class {i}\n" for i in range(6000)))
    sets, _ = open_sets([str(tmp_path / "many")])
    with pytest.raises(UserError, match=r"none of the evaluation sets: many: .* its 6,000 classes .* it takes 24,000"):
        able_sets("caption", sets, {})
    assert able_sets("clip", sets, {})[0] == sets


@pytest.mark.parametrize(
    ("family", "primary", "told"),
    [
        ("clip", "scenes/cider", "a model of family clip has no such metric on a set for retrieval"),
        ("clip", "scenes/itm_accuracy", "a model of family clip has no such metric"),
        ("caption", "scenes/mean_recall@1", "a model of family caption has no such metric"),
        ("llava", "scenes/exact_match", "a model of family llava has no such metric on a set for retrieval"),
        ("clip", "asked/exact_match", "not evaluated (it "),
        ("caption", "MNIST/acc1", "not evaluated (it is measured by vectors"),
        ("caption", "DataComp/average", "no such set; it is mean, or SET/METRIC of scenes, colours"),
        ("clip", "colours/lp_acc1", "is a probe's: say --probe"),
        ("clip", "nothing/acc1", "no such set; it is mean, or SET/METRIC of"),
    ],
)
def test_a_primary_metric_that_will_not_be_there(root: Path, family: str, primary: str, told: str) -> None:
    sets, missing = kept(root, family, "sets", "evalsets")
    if told == "not evaluated (it ":
        told = f"not evaluated ({missing['asked']})"
    with pytest.raises(UserError, match=re.escape(f"primary metric {primary}") + ".*" + re.escape(told)):
        check_primary(primary, family, sorted(sets, key=lambda s: s.name, reverse=True), missing, probe=False)


@pytest.mark.parametrize(
    ("family", "primary"),
    [
        ("clip", "mean"),
        ("clip", "scenes/mean_recall@1"),
        ("clip", "scenes/loss"),  # its name tells nothing
        ("clip", "DataComp/average"),
        ("clip", "MNIST/lp_acc1"),
        ("coca", "scenes/cider"),
        ("coca", "scenes/image_retrieval_recall@5"),
        ("blip", "scenes/itm_auroc"),
        ("caption", "colours/acc1"),
        ("llava", "asked/exact_match_yes_no"),
    ],
)
def test_a_primary_metric_that_may_be_there(root: Path, family: str, primary: str) -> None:
    sets, missing = kept(root, family, "sets", "evalsets")
    check_primary(primary, family, sets, missing, probe=True)


def test_probes_need_vectors_of_pictures(root: Path) -> None:
    sets, _ = open_sets([str(root / "evalsets")])
    check_probe("clip", sets)
    check_probe("caption", sets)
    with pytest.raises(UserError, match=r"--probe: a probe looks at vectors .* family llava have none"):
        check_probe("llava", sets)
    with pytest.raises(UserError, match="--probe: none of the evaluation sets"):
        check_probe("clip", open_sets([str(root / "sets" / "scenes")])[0])


@pytest.mark.parametrize(
    ("family", "said", "told"),
    [
        ("clip", {"evaluate": "sets/asked"}, "family clip can be judged on none of the evaluation sets: asked: "),
        ("clip", {"primary": "scenes/cider"}, "primary metric scenes/cider"),
        ("llava", {"probe": True}, "--probe: "),
    ],
)
def test_a_comparison_is_refused_before_the_pool_is_read(
    root: Path, tmp_path: Path, family: str, said: dict[str, object], told: str
) -> None:
    build_pool(tmp_path / "pool", 20)
    path = tmp_path / "all.yaml"
    path.write_text(yaml.safe_dump({"recipe": "all", "pool": str(tmp_path / "pool"), "shard_size": 100}))
    before = sorted(tmp_path.rglob("*"))
    request = make_request(
        [load_recipe(str(path))],
        Said(
            scale="tiny",
            family=family,
            evaluate=(str(root / str(said.get("evaluate", "sets"))),),
            primary=said.get("primary"),  # type: ignore[arg-type]
            probe=bool(said.get("probe")),
        ),
    )
    with pytest.raises(UserError, match=told):
        compare(request, "inline", None, telling=Telling(quiet=True), command="curate compare")
    assert sorted(tmp_path.rglob("*")) == before
