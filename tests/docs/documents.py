"""Run the code blocks of a document, from top to bottom, as its reader would.

    run_document(ROOT / "README.md", world)

Four kinds of fenced blocks, told by their language:
    console  lines with "$ " are commands; what follows a command, if anything, is all that it prints, with "..." for
             what may differ: inside a line any characters, as a line of its own any lines
    yaml     with "# file: NAME" in its first line: written there; else: a recipe, or some sections of one, that loads
    python   with "# file: NAME" in its first line: written there; else: a script that runs
    text     a diagram, or an answer: not code
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from curate.recipe import load_recipe

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
KINDS = ("console", "yaml", "python", "text")
LIMIT_S = 240
# Commands that a test cannot take literally, and what is run in their place; CI runs the real `make test`.
INSTEAD = (
    (r"^make (\w+)", r"make -n -C ROOT \1"),
    (r"^pip install \.", r"uv pip install --quiet --no-deps --target installed ROOT"),
    (r"^git clone \S+ curate", r"git clone -q ROOT curate"),
)


@dataclass(frozen=True)
class Block:
    """A fenced block: where its first line stands, its language and content."""

    line: int
    kind: str
    content: str


@dataclass(frozen=True)
class Command:
    """A command of a console block and what it should print; None where the document does not say."""

    line: int
    text: str
    expected: str | None


def blocks(document: Path) -> list[Block]:
    text = document.read_text(encoding="utf-8")
    return [Block(text[: m.start()].count("\n") + 2, m[1], m[2]) for m in FENCE.finditer(text)]


def indented(document: Path) -> list[int]:
    """Lines of indented code, which nothing would run."""
    text = FENCE.sub(lambda m: "\n" * m[0].count("\n"), document.read_text(encoding="utf-8"))
    lines = text.splitlines()
    return [
        n for n, line in enumerate(lines, 1)
        if line.startswith("    ") and line.strip() and (n == 1 or not lines[n - 2].strip())
        and not lines[n - 2].startswith(("- ", "1."))
    ]  # fmt: skip


def commands(block: Block) -> Iterator[Command]:
    """Commands of a console block; a line that ends in a backslash goes on with "> " lines' content."""
    found: list[tuple[int, list[str], list[str]]] = []
    for number, line in enumerate(block.content.splitlines(), block.line):
        if line.startswith("$ "):
            found.append((number, [line[2:]], []))
        elif line.startswith("> ") and found and not found[-1][2]:
            found[-1][1].append(line[2:])
        elif found:
            found[-1][2].append(line)
        elif line.strip():
            raise AssertionError(f"line {number}: a console block begins with a command")
    for number, said, printed in found:
        yield Command(number, "\n".join(said), "\n".join(printed).rstrip() or None)


def matches(expected: str, printed: str) -> bool:
    """Is this what the document shows? "..." stands for any characters of a line, or any lines."""
    pattern = []
    for line in expected.splitlines():
        if line.strip() == "...":
            pattern.append(r"(?:[^\n]*\n)*?")
        else:
            pattern.append(re.escape(line.rstrip()).replace(r"\.\.\.", r"[^\n]*") + r"[ ]*\n")
    return re.fullmatch("".join(pattern), printed.rstrip() + "\n") is not None


def run_document(document: Path, world: Path, root: Path, programs: Path = Path(sys.executable).parent) -> int:
    """Run all blocks in `world`; returns how many commands, scripts and recipes there were.

    Args:
        root: the project. programs: the folder of its `curate` and `python`.

    Raises:
        AssertionError: naming document and line.
    """
    count = 0
    for block in blocks(document):
        where = f"{document.name}:{block.line}"
        assert block.kind in KINDS, f"{where}: ```{block.kind} is none of {', '.join(KINDS)}"
        name = re.match(r"# file: (\S+)", block.content)
        if block.kind == "console":
            for command in commands(block):
                run_command(f"{document.name}:{command.line}", command, world, root, programs)
                count += 1
        elif name and block.kind in ("yaml", "python"):
            (world / name[1]).parent.mkdir(parents=True, exist_ok=True)
            (world / name[1]).write_text(on_loopback(block.content) if block.kind == "yaml" else block.content)
            count += 1
        elif block.kind == "yaml":
            load_fragment(where, block.content, world)
            count += 1
        elif block.kind == "python":
            done = subprocess.run([str(programs / "python"), "-c", block.content], **_how(world, root, programs))
            assert done.returncode == 0, f"{where}: {done.stderr[-3000:]}"
            count += 1
    return count


def on_loopback(recipe: str) -> str:
    """Documents speak of the open web; here the web is on this machine, and a recipe has to say so."""
    if "\n  allow_loopback:" in recipe:
        return recipe
    return re.sub(r"^ingest:\n", "ingest:\n  allow_loopback: true\n", recipe, flags=re.MULTILINE)


def load_fragment(where: str, content: str, world: Path) -> None:
    """A recipe, or some of its sections: it loads."""
    raw = yaml.safe_load(content)
    text = content if "recipe" in raw else f"recipe: fragment\n{content}"
    path = world / f"fragment-{where.replace(':', '-').replace('.', '-')}.yaml"
    path.write_text(text)
    before = os.getcwd()
    os.chdir(world)
    try:
        assert load_recipe(str(path)).steps is not None, where
    finally:
        os.chdir(before)


def run_command(where: str, command: Command, world: Path, root: Path, programs: Path) -> str:
    """Run one command; returns what it printed.

    Raises:
        AssertionError: it fails, or prints something else than the document says.
    """
    text = command.text
    for pattern, instead in INSTEAD:
        text = re.sub(pattern, instead.replace("ROOT", str(root)), text)
    done = subprocess.run(["bash", "-c", text], **_how(world, root, programs))
    wanted = 1 if re.search(r"^curate: ", command.expected or "", re.MULTILINE) else 0
    printed = done.stdout + (done.stderr if wanted else "")
    assert done.returncode == wanted, f"{where}: {text}\nexit {done.returncode}\n{done.stdout}\n{done.stderr[-3000:]}"
    if re.match(r"curate init\b", text):
        for recipe in world.glob("*.yaml"):
            recipe.write_text(on_loopback(recipe.read_text()))
    if command.expected is not None:
        seen = f"{where}: {text}\nprinted:\n{printed}\nexpected:\n{command.expected}"
        assert matches(command.expected, printed), seen
    return printed


def _how(world: Path, root: Path, programs: Path) -> dict[str, object]:
    paths = os.pathsep.join([str(programs), os.environ.get("PATH", "")])
    env = os.environ | {"PATH": paths, "COLUMNS": "120", "NO_COLOR": "1", "PYTHONPATH": f"{world}{os.pathsep}{root}"}
    env.pop("RAY_ADDRESS", None)
    captured = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL}
    return {"cwd": world, "env": env, "timeout": LIMIT_S, **captured}
