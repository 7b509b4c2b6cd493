"""Recipes that are wrong: every error with line and column, in words, with the nearest name, all at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate.errors import UserError
from curate.recipe import load_recipe


def errors_of(folder: Path, text: str, *overrides: str, name: str = "r.yaml") -> list[str]:
    """The lines of the error, with the folder's name taken off."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as e:
        load_recipe(str(path), overrides)
    return [line.replace(f"{folder}/", "") for line in str(e.value).splitlines()]


TOP = (
    "recipe, description, paper, year, extends, seed, pool, shard_size, source, ingest, columns, filters, captions, "
    "pack"
)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("sed: 3", f"2:1: sed: unknown key; did you mean 'seed'? (known: {TOP}, judge, run)"),
        ("shard_size: 0", "2:1: shard_size: expected a number greater than or equal to 1, found 0"),
        ("seed: many", '2:1: seed: expected a whole number, found "many"'),
        ("seed: 1.5", "2:1: seed: expected a whole number, found 1.5"),
        ("pack: 3", "2:1: pack: expected a map, found 3"),
        (
            "pack: {sample: 1}",
            "2:8: pack.sample: unknown key; did you mean 'samples'? (known: samples, format, repeat)",
        ),
        ("ingest: {sid: 3}", "2:10: ingest.sid: unknown key; did you mean 'side'?"),
        (
            "ingest: {resize: lng}",
            "2:10: ingest.resize: expected 'none', 'short', 'long', 'border' or 'crop', "
            "found \"lng\"; did you mean 'long'?",
        ),
        ("ingest: {contact: é}", "2:1: ingest: contact must be printable ASCII: it is sent in a header"),
        ("source: {pathh: a}", "2:1: source.path: is missing"),
        ("source: {path: 4}", "2:10: source.path: expected a string or a list, found 4"),
        ("source: {path: []}", "2:10: source.path: expected a string or at least one entry, found []"),
        ("source: {path: [a, 1]}", "2:20: source.path.1: expected a string, found 1"),
        ("source: {path: a, keep: {b: 1}}", "2:19: source.keep: expected a list or 'all', found {"),
        ("source: {path: a, keep: [1]}", "2:26: source.keep.0: expected a string, found 1"),
        ("source: [{path: a}, {path: b, kind: tar}]", "2:31: source.1.kind: expected 'auto', 'urls', 'webdataset', "),
        ("source:\n  path: a\n  name: My List", "4:3: source.name: name 'My List': use a-z, 0-9, _ and -; "),
        ("filters: {where: a}", "2:1: filters: expected a list, found "),
        ("filters: [3]", "2:11: filters.0: expected one filter, as `- image_size: {min_side: 200}`, found 3"),
        ("filters: [{id: x}]", "2:11: filters.0: expected one filter, as "),
        (
            "filters:\n  - imagesize: {min_side: 1}",
            "3:5: filters.0.imagesize: 'imagesize' is not known; did you mean 'image_size'? (built in: where, ",
        ),
        (
            "filters:\n  - image_size:\n      min_sid: 1\n      max_side: 3",
            "4:7: filters.0.image_size.min_sid: unknown key; did you mean 'min_side'? (known: min_side, max_side, ",
        ),
        (
            "filters:\n  - image_size:\n    min_side: 1",
            "4:5: filters.0.min_side: is a parameter of image_size: indent it below, as `- image_size: {min_side: ...",
        ),
        ("filters:\n  - image_size:", "3:5: filters.0.image_size: image_size needs a bound: min_side, max_side, "),
        (
            "filters:\n  - where: a\n    image_size: {min_side: 1}",
            "4:5: filters.0.image_size: a second filter in one step; begin it with a dash of its own, ",
        ),
        (
            "filters:\n  - where: a\n    on_mising: drop",
            "4:5: filters.0.on_mising: unknown key; did you mean 'on_missing'?",
        ),
        (
            "filters:\n  - where: a\n    on_missing: dropp",
            "4:5: filters.0.on_missing: expected 'drop', 'keep' or 'error', found \"dropp\"; did you mean 'drop'?",
        ),
        (
            "filters:\n  - image_size: {min_side: 1, on_missing: drop}\n    on_missing: drop",
            "4:5: filters.0.on_missing: stands twice",
        ),
        (
            "filters:\n  - in_subset: {path: a, over: pool}\n    on_missing: drop",
            "4:5: filters.0.on_missing: in_subset has none",
        ),
        ("filters:\n  - where: 3", "3:5: filters.0.where: where takes a predicate as a string, not 3"),
        ("filters:\n  - where: 'sum(mean) > 3'", "3:5: filters.0.where: a predicate cannot use sum()"),
        ("filters:\n  - where: {sql: 'mean >'}", "3:13: filters.0.where.sql: "),
        (
            "filters:\n  - language: en",
            '3:5: filters.0.language: expected a map of keep, min_prob, column, on_missing, found "en"',
        ),
        (
            "filters:\n  - keep_one: {by: sha256}",
            "3:5: filters.0.keep_one.over: is missing: say 'pool' or 'survivors'",
        ),
        ("filters:\n  - language: {keep: [en, 3]}", "3:27: filters.0.language.keep.1: expected a string, found 3"),
        ("filters:\n  - language: {keep: []}", "3:16: filters.0.language.keep: expected at least one entry, found []"),
        ("filters:\n  - {id: a, where: x}\n  - {id: a, where: y}", "4:6: filters.1.id: 'a' is the id of two filters"),
        ("filters:\n  - {id: removed, where: x}", "3:6: filters.0.id: 'removed' says in a pick that no filter dropped"),
        (
            "filters:\n  - {id: 3, where: x}",
            "3:6: filters.0.id: expected a letter, then letters, digits, _ or -, found 3",
        ),
        (
            "filters:\n  - recipe_parts:Brightness: {}",
            "3:5: filters.0.recipe_parts:Brightness: recipe_parts:Brightness is no filter",
        ),
        ("filters:\n  - image_facts: {}", "3:5: filters.0.image_facts: image_facts is no filter but a stage, which "),
        (
            "filters:\n  - recipe_parts:Listed: {names: [a]}",
            "3:5: filters.0.recipe_parts:Listed: Listed: the types of its parameters must be hashable, as tuple[str, ",
        ),
        ("columns: [where]", "2:11: columns.0: where is no stage but a filter, which stands under filters:"),
        ("columns: [imge_facts]", "2:11: columns.0: 'imge_facts' is not known; did you mean 'image_facts'?"),
        ("columns:\n  - language: {modl: x}", "3:16: columns.0.language.modl: unknown key; did you mean 'model'?"),
        (
            "columns: [filters.where:Where]",
            "2:11: columns.0: filters.where:Where is no stage; filters stand under filters:",
        ),
        ("columns: [3]", "2:11: columns.0: expected a stage, as `- image_facts` or "),
        (
            "columns: [image_facts, image_facts]",
            "2:24: columns.1: writes mean, sharpness, entropy, blank, as image_facts at r.yaml:2:11 does, and a name ",
        ),
        ("columns: [recipe_parts:Taken]", "2:11: columns.0: writes width: facts of every sample; "),
        (
            "columns: [recipe_parts:Echo]\ncaptions: {make: [recipe_parts:Echo]}",
            "3:19: captions.make.0: writes echo, as echo at r.yaml:2:11 does, and a name means one column: leave one ",
        ),
        ("captions: {emit: []}", "2:12: captions.emit: expected at least one entry, found []"),
        ("captions: {emit: [{copies: 1.5}]}", "2:20: captions.emit.0.copies: expected a whole number, found 1.5"),
        (
            "captions: {emit: [{texts: [{p: 0}]}]}",
            "2:29: captions.emit.0.texts.0.p: expected a number greater than 0, found 0",
        ),
        (
            "captions: {emit: [{texts: [{source: width}]}]}",
            "2:29: captions.emit.0.texts.0.source: expected a column of texts, found 'width' of type int32",
        ),
        (
            "judge: {family: clap}",
            "2:9: judge.family: expected 'clip', 'siglip', 'meru', 'siglip_caption', 'caption', 'coca', ",
        ),
        ("run: {allow_failed: 2}", "2:7: run.allow_failed: expected a number less than or equal to 1, found 2"),
        ("seed: 1\nseed: 2", "3:1: seed: 'seed' stands twice; the first is on line 2"),
        ("extends: xqzw", "2:1: extends: xqzw: no such file, and no built-in recipe (there are "),
        (
            "extends: datacomp_basik",
            "2:1: extends: datacomp_basik: no such file, and no built-in recipe; did you mean 'datacomp_basic'?",
        ),
    ],
)
def test_an_error_names_its_place_and_the_remedy(tmp_path: Path, text: str, error: str) -> None:
    found = errors_of(tmp_path, f"recipe: x\n{text}\n")
    assert found[0].startswith(f"r.yaml:{error}"), found
    assert len(found) == (2 if "pathh" in text else 1), found  # one mistake, one line


MANY = """\
recipe: bad name
sed: 3
source: {pth: 3}
filters:
  - imagesize: {min_side: 3}
  - language: {keep: [no], min_prob: 2}
    on_missing: sometimes
columns: [imge_facts]
captions: {emit: [{copies: 0}]}
judge: {seeds: 0}
judge: {seeds: 1}
"""


def test_all_errors_are_said_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    found = errors_of(tmp_path, MANY, "pack.sampels=3")
    places = [line.split(": ")[0] + ": " + line.split(": ")[1] for line in found]
    assert places == [
        "r.yaml:11:1: judge",
        "--set pack.sampels=3: pack.sampels",
        "r.yaml:1:1: recipe",
        "r.yaml:2:1: sed",
        "r.yaml:3:1: source.path",
        "r.yaml:3:10: source.pth",
        "r.yaml:5:5: filters.0.imagesize",
        "r.yaml:6:28: filters.1.language.min_prob",
        "r.yaml:7:5: filters.1.on_missing",
        "r.yaml:8:11: columns.0",
        "r.yaml:9:20: captions.emit.0.copies",
        "r.yaml:10:9: judge.seeds",
    ]


@pytest.mark.parametrize("text", ["", "3\n", "- recipe: x\n"])
def test_a_recipe_is_a_map(tmp_path: Path, text: str) -> None:
    assert errors_of(tmp_path, text) == ["r.yaml:1:1: a recipe is a map of keys (recipe:, source:, filters:, ...)"]


def test_a_recipe_has_a_name(tmp_path: Path) -> None:
    assert errors_of(tmp_path, "seed: 1\n") == ["r.yaml:1:1: recipe: is missing"]


def test_long_values_are_cut(tmp_path: Path) -> None:
    (error,) = errors_of(tmp_path, f"recipe: x\nseed: {'9z' * 500}\n")
    assert error.endswith("9z...")
    assert len(error) < 140


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone.yaml: cannot read this recipe: .*No such file"):
        load_recipe(str(tmp_path / "gone.yaml"))
    (tmp_path / "latin.yaml").write_bytes(b"recipe: caf\xe9\n")
    with pytest.raises(UserError, match=r"latin.yaml: cannot read this recipe: .*utf-8"):
        load_recipe(str(tmp_path / "latin.yaml"))
    with pytest.raises(UserError, match=r"^dedupe: no such file, and no built-in recipe; did you mean 'dedup'\?"):
        load_recipe("dedupe")


# ---------------------------------------------------------------- the file and its base


def test_errors_stand_in_the_file_that_they_come_from(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("recipe: base\ningest: {sid: 3}\nfilters: [{were: a}]\njudge:\n  seeds: 0\n")
    mine = "recipe: mine\nextends: base.yaml\ningest:\n  resize: lng\nfilters: [{where: 3}]\n"
    assert [line.split(": ")[0] + ": " + line.split(": ")[1] for line in errors_of(tmp_path, mine)] == [
        "r.yaml:4:3: ingest.resize",
        "r.yaml:5:12: filters.0.where",  # the base's filters are replaced, and its typo with them
        "base.yaml:2:10: ingest.sid",
        "base.yaml:5:3: judge.seeds",
    ]


def test_a_recipe_that_extends_needs_its_own_name(tmp_path: Path) -> None:
    (error,) = errors_of(tmp_path, "extends: dedup\n")
    assert error == "r.yaml:1:1: extends: a recipe that extends another needs a name of its own, as `recipe: my_recipe`"


def test_one_level_of_extends_only(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("recipe: base\nextends: dedup\n")
    (error,) = errors_of(tmp_path, "recipe: x\n\nextends: base.yaml\n")
    assert error == "r.yaml:3:1: extends: base.yaml itself extends dedup; one level only"
    (error,) = errors_of(tmp_path, "recipe: x\nextends: r.yaml\n")
    assert error == "r.yaml:2:1: extends: r.yaml itself extends r.yaml; one level only"


def test_a_base_that_is_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("- 1\n")
    (error,) = errors_of(tmp_path, "recipe: x\nextends: base.yaml\n")
    assert error.startswith("r.yaml:2:1: extends: base.yaml:1:1: a recipe is a map")
