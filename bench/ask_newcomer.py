"""Ten questions of a first day, asked in a fresh clone with what its own `make` installed.

docs/questions.md has the questions, the commands and the answers seen. Here they are asked again, and each command and
option used must be found in the README or in `--help`: a newcomer has nothing else.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

from common import ROOT, Bar, bar, environment, fresh

sys.path.insert(0, str(ROOT / "tests"))
QUESTION = re.compile(r"^## \d+\. (.+)$", re.MULTILINE)


def clone(folder: Path) -> Path:
    """The committed project, with the environment that its own command builds."""
    there = folder / "curate"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(there)], check=True)
    began = time.monotonic()
    done = subprocess.run(["make", "quickstart"], cwd=there, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"make quickstart in a fresh clone:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    print(f"make quickstart in a fresh clone: {time.monotonic() - began:.0f} s; {done.stdout.strip().splitlines()[-1]}")
    return there


def unexplained(there: Path) -> list[str]:
    """Words of the commands in questions.md that neither README nor --help has."""
    from docs.documents import blocks, commands

    curate = there / ".venv" / "bin" / "curate"
    readme = (there / "README.md").read_text()

    def helped(*words: str) -> str:
        done = subprocess.run([curate, *words, "--help"], check=True, capture_output=True, text=True, env=environment())
        return done.stdout

    missing = []
    for block in blocks(there / "docs" / "questions.md"):
        for command in commands(block) if block.kind == "console" else ():
            words = shlex.split(command.text.replace("$(", " ").replace(")", " "))
            if not words or words[0] != "curate":
                continue
            known = readme + helped() + helped(words[1])
            missing += [w for w in words[1:] if w.startswith("--") and w.split("=")[0] not in known]
            missing += [words[1]] if words[1] not in known else []
    return missing


def measure(quick: bool) -> dict[str, Bar]:
    from docs.documents import run_document
    from docs.world import world

    folder = fresh("ask-newcomer")
    there = clone(folder)
    document = there / "docs" / "questions.md"
    questions = QUESTION.findall(document.read_text())
    answered = 0
    text = document.read_text()
    (folder / "world").mkdir()
    with world(folder / "world", 8799) as place:
        for number, part in enumerate(re.split(r"(?m)^(?=## \d+\. )", text)[1:]):
            one = folder / f"question-{number + 1}.md"
            one.write_text(part)
            try:
                run_document(one, place, there, programs=there / ".venv" / "bin")
                answered += 1
            except AssertionError as e:
                print(f"question {number + 1} ({questions[number]}): {e}")
    missing = unexplained(there)
    print("neither in README nor in --help:", missing or "nothing")
    right = answered == len(questions) == 10 and not missing
    return {"newcomer_questions_answered": bar(f"{answered} of {len(questions)}", "10 of 10", right)}


if __name__ == "__main__":
    print(measure(quick=False))
