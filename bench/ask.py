"""The bars of what a person touches: `python bench/ask.py [--quick] [--only NAME,...]`.

A table for people and, last, one JSON line. A full run (about fifteen minutes on two cores) measures every bar and is
kept in bench/ask.json, where `--only` replaces the bars that it measures again; `--quick` (under two minutes) takes
smaller sizes, null for what it does not measure.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from parts import run  # noqa: E402

PARTS = {
    "commands": ("ask_commands", True),
    "sql": ("ask_sql", True),
    "report": ("report_speed", True),
    "newcomer": ("ask_newcomer", False),
}
TESTS = {
    "every_document_block_runs": ["tests/docs"],
    "hostile_queries_refused": ["tests/ask/test_sql_lock.py"],
    "report_in_a_real_browser": ["tests/ask/test_page_browser.py"],
}

if __name__ == "__main__":
    run(__doc__, "ask", PARTS, TESTS)
