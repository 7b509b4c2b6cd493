"""Generation: equal to transformers' where it does the same, draws by key alone, and the edges of a text."""

from __future__ import annotations

import math
from collections import Counter
from itertools import accumulate

import pytest
import torch
import xxhash
from torch import Tensor

from training_smoke.errors import TrainingError
from training_smoke.generation import Anew, generate
from training_smoke.sampling import Sampling

BOS, EOS, PAD, SIZE = 1, 2, 0, 30
NAMES = [f"row {i}" for i in range(6)]


class Table:
    """A decoder of fixed logits by (row, last token), that counts what it is asked. Its state: numbers of rows."""

    def __init__(self, rows: int = 6, seed: int = 0, spread: float = 2.0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.logits = spread * torch.randn(rows, SIZE, SIZE, generator=generator, dtype=torch.float64)
        self.asked = 0

    def begin(self) -> Tensor:
        return torch.arange(len(self.logits))

    def next(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        assert len(tokens) == len(state)
        self.asked += len(tokens)
        return self.logits[state, tokens], state

    def rows(self, state: Tensor, index: Tensor) -> Tensor:
        return state[index]


def said(decoder: Table, how: Sampling, names: list[str] = NAMES, prefix: Tensor | None = None) -> list[list[int]]:
    return texts(generate(decoder, len(names), how, names, BOS, EOS, PAD, prefix))


def texts(tokens: Tensor) -> list[list[int]]:
    """Up to the end, of which there is one; only `PAD` is behind it, and in no column alone."""
    found = []
    for row in tokens.tolist():
        end = row.index(EOS)
        assert set(row[end + 1 :]) <= {PAD}
        assert not {PAD, BOS, EOS} & set(row[:end])
        found.append(row[:end])
    assert tokens.shape[1] == 1 + max(map(len, found))
    return found


# ------------------------------------------------------------------------------------------- against transformers


def gpt(seed: int) -> torch.nn.Module:
    """A tiny GPT-2 with logits so far apart that texts end, and at different places."""
    transformers = pytest.importorskip("transformers")
    ids = {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD}
    sizes = {"vocab_size": SIZE, "n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2}
    config = transformers.GPT2Config(**sizes, **ids, tie_word_embeddings=False)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: torch.nn.Module = transformers.GPT2LMHeadModel(config).eval().double()
        for name, weight in model.named_parameters():
            if name.endswith(("wte.weight", "wpe.weight", "lm_head.weight")):
                weight.data.mul_(20)
    return model


def both(model: torch.nn.Module, starts: Tensor, how: Sampling) -> tuple[list[list[int]], list[list[int]]]:
    """What we say after `starts`, and what transformers says."""

    def logits(rows: Tensor, tokens: Tensor) -> Tensor:
        found: Tensor = model(tokens).logits[:, -1]
        return found

    ours = generate(Anew(logits, len(starts)), len(starts), how, ["-"] * len(starts), BOS, EOS, PAD, starts)
    theirs = model.generate(  # type: ignore[operator]
        starts,
        attention_mask=torch.ones_like(starts),
        do_sample=False,
        max_new_tokens=how.max_tokens,
        min_new_tokens=how.min_tokens,
        num_beams=how.beams if how.kind == "beam" else 1,
        repetition_penalty=how.repetition_penalty,
        length_penalty=how.length_penalty,
        suppress_tokens=[BOS, PAD],
    )[:, 1:]
    cut = [row[: row.index(EOS)] if EOS in row else [t for t in row if t != PAD] for row in theirs.tolist()]
    return texts(ours), cut


@pytest.mark.parametrize(
    "how",
    [
        Sampling("greedy", max_tokens=12),
        Sampling("beam", beams=3, max_tokens=12),
        Sampling("beam", beams=4, max_tokens=9, min_tokens=4, length_penalty=2.0),
        Sampling("beam", beams=2, max_tokens=14, length_penalty=0.0),
        Sampling("beam", beams=1, max_tokens=6),
    ],
    ids=str,
)
def test_greedy_and_beam_are_those_of_transformers(how: Sampling) -> None:
    lengths = set()
    for seed in range(4):
        ours, theirs = both(gpt(seed), torch.arange(3, SIZE, 4)[:, None], how)
        assert ours == theirs
        lengths |= {len(text) for text in theirs}
    assert len(lengths) > 1  # some ended, and not at one place


def test_what_was_said_is_punished_as_by_transformers() -> None:
    """From the start token alone: transformers punishes a prefix too, we do not."""
    how = Sampling("greedy", max_tokens=12, min_tokens=3, repetition_penalty=1.3)
    for seed in range(6):
        ours, theirs = both(gpt(seed), torch.tensor([[BOS]]), how)
        assert ours == theirs


def test_punished_beams_by_hand() -> None:
    """Logits are punished before they become likelihoods, and the best of all texts of two tokens is found."""
    table, how = Table(), Sampling("beam", beams=SIZE, max_tokens=2, min_tokens=2, repetition_penalty=3.0)
    for row, found in enumerate(said(table, how)):

        def score(first: int, second: int, row: int = row) -> float:
            logits = table.logits[row, first].clone()
            logits[first] = logits[first] / 3 if logits[first] > 0 else logits[first] * 3
            return float(table.logits[row, BOS].log_softmax(0)[first] + logits.log_softmax(0)[second])

        allowed = range(3, SIZE)
        assert found == list(max(((a, b) for a in allowed for b in allowed), key=lambda pair: score(*pair)))


# ------------------------------------------------------------------------------------------- draws

NUCLEUS = Sampling("nucleus", p=0.8, temperature=1.5, max_tokens=10, seed=4)


@pytest.mark.parametrize("how", [NUCLEUS, Sampling("top_k", k=5, max_tokens=10), Sampling("beam"), Sampling()], ids=str)
def test_a_text_does_not_depend_on_what_else_is_in_the_batch(how: Sampling) -> None:
    class Some(Table):
        """Of a table's rows those in `order`."""

        def __init__(self, order: list[int]) -> None:
            super().__init__()
            self.logits = self.logits[order]

    together = said(Table(), how)
    assert len({len(text) for text in together}) > 1
    for order in ([3], [5, 0, 2], [4, 3, 2, 1, 0, 5]):
        assert said(Some(order), how, [NAMES[i] for i in order]) == [together[i] for i in order]


def test_draws_by_hand() -> None:
    """The first token, from the definition: likeliest first until p is reached, by (seed, key, place)."""
    table = Table(spread=1.0)
    found = said(table, NUCLEUS)
    for row, name in enumerate(NAMES):
        logits = {v: float(x) / 1.5 for v, x in enumerate(table.logits[row, BOS]) if v not in (BOS, PAD, EOS)}
        odds = {v: math.exp(x) / sum(map(math.exp, logits.values())) for v, x in logits.items()}
        kept: dict[int, float] = {}
        for v in sorted(odds, key=lambda v: -odds[v]):
            if sum(kept.values()) < 0.8:
                kept[v] = odds[v]
        draw = (xxhash.xxh3_64_intdigest(f"4/{name}/0".encode()) >> 11) / 2**53 * sum(kept.values())
        sums = dict(zip(kept, accumulate(kept.values()), strict=True))
        assert found[row][0] == next(v for v, below in sums.items() if draw < below)


def test_draws_follow_the_odds() -> None:
    """Of 4,000 keys, the first token of one row: four likeliest tokens, as often as their odds say."""
    logits = Table().logits[0, BOS].clone()
    logits[[BOS, EOS, PAD]] = -torch.inf
    odds, best = logits.softmax(0).topk(4)
    odds /= odds.sum()
    many = Anew(lambda rows, tokens: logits.expand(len(rows), -1), 4000)
    drawn = generate(many, 4000, Sampling("top_k", k=4, max_tokens=1), [str(i) for i in range(4000)], BOS, EOS, PAD)
    count = Counter(drawn[:, 0].tolist())
    assert set(count) == set(best.tolist())
    for token, odd in zip(best.tolist(), odds.tolist(), strict=True):
        assert count[token] / 4000 == pytest.approx(odd, abs=4 * math.sqrt(odd * (1 - odd) / 4000))


def test_the_narrowest_draws_are_greedy() -> None:
    greedy = said(Table(), Sampling(max_tokens=9))
    assert said(Table(), Sampling("top_k", k=1, max_tokens=9)) == greedy
    assert said(Table(), Sampling("nucleus", p=1e-9, max_tokens=9)) == greedy
    assert said(Table(), Sampling("top_k", k=10**6, max_tokens=9)) != greedy


def test_another_seed_or_key_draws_another_text() -> None:
    found = said(Table(), NUCLEUS)
    assert said(Table(), NUCLEUS) == found
    assert said(Table(), Sampling("nucleus", p=0.8, temperature=1.5, max_tokens=10, seed=5)) != found
    assert said(Table(), NUCLEUS, [name + "'" for name in NAMES]) != found


# ------------------------------------------------------------------------------------------- edges


@pytest.mark.parametrize("kind", ["greedy", "beam", "nucleus", "top_k"])
@pytest.mark.parametrize(("least", "most"), [(0, 1), (1, 1), (7, 7), (3, 12)])
def test_lengths(kind: str, least: int, most: int) -> None:
    lengths = {len(t) for t in said(Table(), Sampling(kind, min_tokens=least, max_tokens=most))}  # type: ignore[arg-type]
    assert min(lengths) >= least
    assert max(lengths) <= most


def test_an_empty_text() -> None:
    table = Table()
    table.logits[:, BOS, EOS] = 100
    assert said(table, Sampling(min_tokens=0)) == [[]] * 6
    assert said(table, Sampling("beam", min_tokens=0)) == [[]] * 6


def test_rows_that_ended_cost_nothing_more() -> None:
    table = Table()
    table.logits[1:, :, EOS] = 100  # all but the first row end as soon as they may
    table.logits[0, :, EOS] = -100
    said(table, Sampling(min_tokens=1, max_tokens=10))
    assert table.asked == 6 + 6 + 8  # bos, the first token, and the first row's next ones but the last
    table.asked = 0
    found = said(table, Sampling("beam", beams=2, min_tokens=1, max_tokens=10))
    assert [len(text) for text in found] == [10, 1, 1, 1, 1, 1]
    assert table.asked < 6 + 2 * (6 + 6 + 8)


def test_a_prefix_is_fed_and_not_said_again() -> None:
    table = Table()
    prefix = torch.tensor([[BOS, 7, 9]] * 6)
    table.asked = 0
    found = said(table, Sampling(max_tokens=4), prefix=prefix)
    assert [text[0] for text in found] == table.logits[:, 9].index_fill(1, torch.tensor([0, 1, 2]), -9e9).argmax(
        1
    ).tolist()


@pytest.mark.parametrize("kind", ["greedy", "beam", "nucleus", "top_k"])
@pytest.mark.parametrize("what", [math.nan, math.inf])
@pytest.mark.parametrize("begin", [True, False])
def test_what_is_no_number_is_no_text(kind: str, what: float, begin: bool) -> None:
    """Of one row and one token, at the first place or at a later one."""
    table = Table()
    how = Sampling(kind, max_tokens=6, min_tokens=6)  # type: ignore[arg-type]
    table.logits[3, BOS if begin else 3 :, 7] = what
    with pytest.raises(TrainingError, match="logits of the next token have NaN or infinity"):
        said(table, how)


def test_a_token_may_be_ruled_out() -> None:
    table = Table()
    table.logits[:, :, 20:] = -math.inf
    assert max(map(max, said(table, Sampling(max_tokens=6)))) < 20


def test_a_text_stays_within_what_a_model_has_places_for() -> None:
    assert Sampling(min_tokens=8, max_tokens=30).within(5) == Sampling(min_tokens=5, max_tokens=5)
    assert Sampling(min_tokens=2, max_tokens=30).within(5) == Sampling(min_tokens=2, max_tokens=5)
    assert Sampling().within(100) == Sampling()


def test_no_rows() -> None:
    assert generate(Anew(lambda rows, tokens: tokens, 0), 0, Sampling(), [], BOS, EOS, PAD).shape == (0, 1)


def test_numbers_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="6 rows need as many keys"):
        generate(Table(), 6, Sampling(), ["one"], BOS, EOS, PAD)
    with pytest.raises(ValueError, match="prefixes of at least one token"):
        generate(Table(), 6, Sampling(), NAMES, BOS, EOS, PAD, torch.zeros(6, 0, dtype=torch.int64))
    with pytest.raises(TrainingError, match="greedy, beam, nucleus or top_k"):
        Sampling("best")  # type: ignore[arg-type]
