"""WinoGAViL's Jaccard index by hand, its ties, its prompt and its groups."""

from __future__ import annotations

import numpy as np
import pytest

from training_smoke.errors import TrainingError
from training_smoke.evaluate.winogavil import jaccard, metrics, prompt


@pytest.mark.parametrize(
    ("cue", "said"), [("Owl", "An owl"), ("bridge", "A bridge"), ("UFO", "An ufo"), ("hour", "A hour")]
)
def test_prompt(cue: str, said: str) -> None:
    assert prompt(cue) == said


def test_jaccard_by_hand() -> None:
    similarities = np.array([0.9, 0.1, 0.8, 0.2, 0.3])
    assert jaccard(similarities, np.array([1, 0, 0, 0, 1], bool)) == pytest.approx(1 / 3)
    assert jaccard(similarities, np.array([1, 0, 1, 0, 0], bool)) == 1
    assert jaccard(similarities, np.array([0, 1, 0, 1, 0], bool)) == 0


def test_ties_go_to_the_lower_index() -> None:
    same = np.zeros(5)
    assert jaccard(same, np.array([1, 1, 0, 0, 0], bool)) == 1
    assert jaccard(same, np.array([0, 0, 0, 1, 1], bool)) == 0


def test_what_has_no_score() -> None:
    with pytest.raises(TrainingError, match="without associations"):
        jaccard(np.zeros(3), np.zeros(3, bool))
    with pytest.raises(TrainingError, match="NaN"):
        jaccard(np.array([np.nan, 0]), np.array([True, False]))


def test_groups() -> None:
    found = metrics([1.0, 0.5, 0.0, 0.25], [5, 6, 10, 12])
    assert found == {
        "avg_jaccard_score": 0.4375,
        "jaccard_score_5": 1.0,
        "jaccard_score_6": 0.5,
        "jaccard_score_10": 0.0,
        "jaccard_score_12": 0.25,
        "jaccard_score_5-6": 0.75,
        "jaccard_score_10-12": 0.125,
    }
    assert "jaccard_score_10-12" not in metrics([1.0], [5])


def test_guessing_is_at_the_published_chance() -> None:
    """DataComp's table says 0.205 for 10 and 12 candidates, of which people choose about a third."""
    rng = np.random.default_rng(0)
    scores = [jaccard(rng.random(n), np.arange(n) < m) for n, m in [(10, 3), (12, 4)] for _ in range(4000)]
    assert np.mean(scores) == pytest.approx(0.205, abs=0.03)
