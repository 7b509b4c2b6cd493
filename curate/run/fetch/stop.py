"""How a URL ends without an image: an outcome and one line about it."""

from __future__ import annotations


class Stop(Exception):
    """The URL ends here. `outcome`: of curate.pool.facts.OUTCOMES; `detail`: one line; `size`: bytes that came."""

    def __init__(self, outcome: str, detail: str) -> None:
        super().__init__(outcome, detail)
        self.outcome = outcome
        self.detail = " ".join(detail.split())[:300]
        self.size = 0
