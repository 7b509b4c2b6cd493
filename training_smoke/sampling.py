"""How a text is drawn from a model's next-token probabilities.

Sampling("nucleus", p=0.9, max_tokens=20, seed=3)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from training_smoke.errors import TrainingError

Kind = Literal["greedy", "beam", "nucleus", "top_k"]


@dataclass(frozen=True)
class Sampling:
    """kind: the likeliest token at each place; the likeliest text of `beams` kept ones; a draw from the fewest tokens
    that have `p` of the probability together (Holtzman et al. 2020, arXiv:1904.09751); a draw from the `k` likeliest.

    temperature: divides logits before a draw. min_tokens, max_tokens: of the text, its end not counted.
    repetition_penalty: divides positive logits and multiplies negative ones of tokens that were said (Keskar et al.
    2019, arXiv:1909.05858, 4.1).
    length_penalty: beams are ranked by log likelihood / length ** it.
    """

    kind: Kind = "greedy"
    beams: int = 3
    p: float = 0.9
    k: int = 50
    temperature: float = 1.0
    min_tokens: int = 1
    max_tokens: int = 24
    repetition_penalty: float = 1.0
    length_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("greedy", "beam", "nucleus", "top_k"):
            raise TrainingError(f"sampling {self.kind!r}: it is greedy, beam, nucleus or top_k")
        if not 0 < self.p <= 1 or self.k < 1 or self.beams < 1 or not self.temperature > 0:
            raise TrainingError(f"{self}: p lies in (0, 1], k and beams are at least 1, temperature is above 0")
        if not 0 <= self.min_tokens <= self.max_tokens or self.max_tokens < 1 or not self.repetition_penalty > 0:
            raise TrainingError(f"{self}: 0 <= min_tokens <= max_tokens, and repetition_penalty is above 0")

    def within(self, most: int) -> Sampling:
        """The same, of a model that has places for `most` tokens of a text."""
        return replace(self, min_tokens=min(self.min_tokens, most), max_tokens=min(self.max_tokens, most))
