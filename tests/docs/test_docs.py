"""Every code block of the documents runs, from top to bottom, as its reader would run it."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from docs.documents import KINDS, blocks, commands, indented, matches, run_document
from docs.world import world

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(str(p.relative_to(ROOT)) for p in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with world(tmp_path, port) as folder:
        yield folder


@pytest.mark.timeout(900)  # the README alone runs some forty commands
@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_block_of_the_document_runs(name: str, place: Path) -> None:
    found = blocks(ROOT / name)
    assert {b.kind for b in found} <= set(KINDS)
    assert indented(ROOT / name) == [], "indented code is run by nothing: fence it"
    run = run_document(ROOT / name, place, ROOT)
    assert run == sum(
        len(list(commands(b))) if b.kind == "console" else b.kind != "text" for b in found
    )  # none was passed over


def test_dots_stand_for_what_may_differ() -> None:
    assert matches("kept ... of 60\n...\nend", "kept 3 of 60\na\nb\nend\n")
    assert matches("kept ... of 60\n...\nend", "kept 3 of 60\nend")
    assert not matches("kept ... of 60", "kept 3 of 61")
    assert not matches("kept", "kept\nmore")


def test_an_indented_block_is_seen(tmp_path: Path) -> None:
    (tmp_path / "d.md").write_text("# a\n\n    curate run x\n\n```text\n    fine\n```\n\n- item\n    goes on\n")
    assert indented(tmp_path / "d.md") == [3]


def test_every_builtin_recipe_is_explained() -> None:
    explained = re.findall(r"^\| `(\w+)` \| (?:none|[A-Z])", (ROOT / "docs" / "recipes.md").read_text(), re.MULTILINE)
    assert sorted(explained) == sorted(p.stem for p in (ROOT / "recipes").glob("*.yaml"))
