"""Defaults that depend on what was seen."""

from __future__ import annotations

from collections.abc import Sequence

from curate.init.look import Captions
from curate.init.pictures import Sizes

SHARD = 10_000  # samples: the default of recipes
SHARDS = 8  # that even a small input should make, so that several workers have something to do
LEAST = 100  # samples of a shard
MIN_SIDES = (200, 128, 64, 32)
WORDS = (3, 2, 1)
AT_LEAST = 0.1  # share of the sample that a language needs to be kept, besides the largest
SPACELESS = frozenset({"zh", "ja", "th", "lo", "km", "my", "bo", "dz", "wuu", "yue"})


def nice_shard_size(rows: int) -> int | None:
    """1, 2 or 5 times a power of ten; None where the default will do."""
    if rows >= SHARD * SHARDS // 2:
        return None
    size, steps = LEAST, 0
    while size * SHARDS < rows:
        size = size * 5 // 2 if steps % 3 == 1 else size * 2
        steps += 1
    return min(size, SHARD)


def kept_languages(found: Captions) -> list[str]:
    """The largest language and all that make up a tenth of the sample; none where hardly any is sure."""
    sure = [(name, n) for name, n in found.languages.most_common() if name != "?"]
    return [name for i, (name, _) in enumerate(sure) if found.share(name) >= AT_LEAST or i == 0]


def written_without_spaces(languages: Sequence[str]) -> bool:
    return any(name in SPACELESS for name in languages)


def least_words(found: Captions) -> int:
    """The most of `WORDS` that drops no more than half of the texts."""
    return next((w for w in WORDS if found.fewer(w) <= 0.5), 1)


def least_side(sizes: Sizes | None) -> int:
    """128 pixels; where that would drop more than half of the pictures, the next bound that does not."""
    if sizes is None:
        return 128
    return next((s for s in MIN_SIDES[1:] if sizes.below(s) <= 0.5), 1)
