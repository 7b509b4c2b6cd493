"""YAML as recipes have it: no traps of YAML 1.1, a place for every key, no cost without bound."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import UserError
from curate.recipe_yaml import MAX_DEPTH, MAX_VALUES, Document, dump, parse_value

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**29), 10**29)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Cn")), max_size=20)
    | st.from_regex(r"[-+]?[0-9._eExobn:~]{1,8}", fullmatch=True)
    | st.sampled_from(["no", "yes", "on", "Off", "NULL", "~", "", "1e-4", "0o7", "1:30", "<<", "=", "a: b", "- a", "#"])
)
KEYS = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=8)
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=4) | st.dictionaries(KEYS, v, max_size=4), max_leaves=12)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("1e-4", 1e-4),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("-3.", -3.0),
        ("1_000_000", 1_000_000),
        ("0123", 123),
        ("089", 89),
        ("1:30", "1:30"),
        ("2020-01-01", "2020-01-01"),
        ("0x1f", "0x1f"),
        ("'3'", "3"),
        ("~", None),
        ("null", None),
        ("", None),
        ("=", "="),
        (".inf", ".inf"),
        ("1.2.3", "1.2.3"),
    ],
)
def test_plain_scalars_are_what_they_look_like(text: str, value: object) -> None:
    found = parse_value(text)
    assert found == value
    assert type(found) is type(value)


def test_norwegian_is_a_language() -> None:
    assert Document("r", "keep: [no, en]").value == {"keep": ["no", "en"]}
    assert Document("r", "no: 1").value == {"no": 1}


@given(VALUES)
def test_what_is_dumped_reads_back(value: Any) -> None:
    assert parse_value(dump(value)) == value


@pytest.mark.parametrize("text", ["a\x85b", "a\u2028b", "\ufeff", "tab\there", "line\nbreak", "emoji 😀"])
def test_odd_characters_are_dumped_whole(text: str) -> None:
    assert parse_value(dump({"a": [text]})) == {"a": [text]}


def test_every_key_has_its_place() -> None:
    document = Document("r.yaml", "a: 1\nb:\n  - c: {d: 2}\n  -   x\n")
    places = {("a",): (1, 1), ("b",): (2, 1), ("b", 0): (3, 5), ("b", 0, "c", "d"): (3, 9), ("b", 1): (4, 7)}
    assert {path: document.place(path) for path in places} == places
    assert document.place(("b", 0, "c", "nowhere", 3)) == (3, 5)  # the innermost that is there
    assert document.at(("nowhere",)) == "r.yaml:1:1"


def test_problems_are_collected_with_their_places() -> None:
    text = "a: 1\nb: !!python/object/apply:os.system [ls]\na: 2\nc: !!int x\n"
    text += "d: 1e999\n<<: {e: 1}\n? [f]\n: 1\ng: !!set {h}\n"
    assert Document("r", text).problems == [
        "r:2:4: b: the tag tag:yaml.org,2002:python/object/apply:os.system is refused: a recipe is plain YAML",
        "r:3:1: a: 'a' stands twice; the first is on line 1",
        "r:4:4: c: 'x' cannot be read as int",
        "r:5:4: d: '1e999' cannot be read as float",
        "r:6:1: <<: merge keys are refused; write the keys out, or use `extends`",
        "r:7:3: a key must be a plain word",
        "r:9:4: g: the tag tag:yaml.org,2002:set is refused: a recipe is plain YAML",
    ]


def test_a_key_is_found_twice_below_others() -> None:
    (problem,) = Document("r", "a:\n  - b: 1\n    c: 2\n    b: 3\n").problems
    assert problem == "r:4:5: a.0.b: 'b' stands twice; the first is on line 2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "r:1:5: this is not YAML: "),
        ("a: 1\n\t- b", "r:2:1: this is not YAML: found character '\\t'"),
        ("a: 1\n---\nb: 2\n", "r:2:1: this is not YAML: but found another document"),
        ("a: *nowhere", "r:1:4: this is not YAML: found undefined alias"),
        ("a: 1\nb: \x00", "r:2: this is not YAML: character 0 is not allowed"),
        ("[" * 3000, f"r:1:{MAX_DEPTH + 1}: nested more than {MAX_DEPTH} levels deep"),
        ("a: &x [*x]", f"r:1:4: anchors multiply this to more than {MAX_VALUES:,} values or {MAX_DEPTH} levels"),
        ("x" * 1_000_001, "r: 1,000,001 characters"),
    ],
)
def test_what_cannot_be_parsed_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError) as e:
        Document("r", text)
    assert str(e.value).startswith(message)


def test_anchors_are_values_but_cannot_multiply_without_end() -> None:
    assert Document("r", "a: &x [1, 2]\nb: *x\n").value == {"a": [1, 2], "b": [1, 2]}
    laughs = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    laughs += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(UserError, match="anchors multiply"):
        Document("r", "\n".join(laughs))


def test_values_of_overrides_are_refused_in_words() -> None:
    with pytest.raises(UserError, match=r"^value:1:8: a: 'a' stands twice"):
        parse_value("{a: 1, a: 2}")


def test_json_is_yaml_also_beyond_the_first_plane() -> None:
    assert parse_value(json.dumps({"pool": "s3://b/\N{GRINNING FACE} \u00e9"})) == {
        "pool": "s3://b/\N{GRINNING FACE} \u00e9"
    }
    with pytest.raises(UserError, match="cannot be read as str"):
        parse_value('"\\ud83d"')
