"""How much is generated and matched in an evaluation: what costs a forward pass of a decoder each is asked of a part.

evaluate(model, "evalsets/wds_flickr8k", effort=Effort(pictures=1000))
"""

from __future__ import annotations

from dataclasses import dataclass

from training_smoke.errors import TrainingError
from training_smoke.evaluate.pictures import FEWEST


@dataclass(frozen=True)
class Effort:
    """Upper bounds; what was really asked stands in the record (n_captioned, n_matched, n_reranked, n).

    pictures: that are captioned, matched, or classified by likelihood. questions: that are answered. queries: pictures,
    and as many captions, whose first `k` by vectors are ordered by matching. pairs: pictures times prompts that are
    scored where classes are told by likelihood. beams: of captions; 1 writes greedily. seed: of the nucleus draws.

    Which part of a set it is depends on its order alone, and a greater bound takes what a smaller one took and more. A
    small model's greedy captions are often one sentence, and beams tell pictures apart: of a CoCa of 45,000 samples of
    Flickr8k CIDEr was 0.136 greedily, 0.114 of a grey picture; 0.179 and 0.022 with three beams.
    """

    pictures: int = 500
    questions: int = 1000
    queries: int = 64
    k: int = 16
    pairs: int = 20_000
    beams: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.queries, self.k, self.beams) < 1 or min(self.pictures, self.questions, self.pairs) < FEWEST:
            raise TrainingError(
                f"{self}: nothing would be measured: pictures, questions and pairs are at least {FEWEST}, as controls "
                "take other pictures"
            )
