"""The vocabulary of small models: what it reads, what it gives back, and that transformers sees the same."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training_smoke.errors import TrainingError
from training_smoke.vocabulary import SPECIALS, Vocabulary

SAID = [
    "a dog runs.",
    "a man's t-shirt, (red) isn't 42% off; is it?",
    "two dogs: one brown, one black",
    "they're 3-4 years old, i'd say!",
    "日本語 and ü",
]


@pytest.fixture(scope="module")
def small() -> Vocabulary:
    return Vocabulary.small()


def test_specials_have_their_numbers(small: Vocabulary) -> None:
    assert [small.number(token) for token in SPECIALS] == [small.pad, small.bos, small.eos, small.mask, small.image]
    more = Vocabulary.small(1000, extra=("<user>", "<assistant>"))
    assert [more.number(token) for token in more.extra] == [5, 6]
    assert more.size == 1000


def test_rows_begin_end_and_are_padded(small: Vocabulary) -> None:
    tokens = small.encode(["a dog", ""], context=6)
    dog = small.number("dog</w>")
    assert tokens.tolist() == [[1, small.number("a</w>"), dog, 2, 0, 0], [1, 2, 0, 0, 0, 0]]
    assert tokens.dtype == torch.int64
    assert small.encode(["dog"], 3, bos=False).tolist() == [[dog, 2, 0]]
    assert small.encode(["dog"], 3, eos=False).tolist() == [[1, dog, 0]]
    assert small.encode([], 3).shape == (0, 3)


def test_a_longer_text_is_cut_and_still_ends(small: Vocabulary) -> None:
    dog = small.number("dog</w>")
    assert small.encode(["dog " * 50], context=5).tolist() == [[1, dog, dog, dog, 2]]
    assert small.encode(["dog " * 50], context=5, eos=False).tolist() == [[1, dog, dog, dog, dog]]


@pytest.mark.parametrize("text", SAID)
def test_what_people_write_comes_back(small: Vocabulary, text: str) -> None:
    assert small.decode(small.encode([text.upper()], 64)) == [text]


def test_decoding_stops_at_the_end_and_leaves_out_specials(small: Vocabulary) -> None:
    a, dog = small.number("a</w>"), small.number("dog</w>")
    assert small.decode(torch.tensor([[1, a, 3, dog, 2, a, a], [a, 4, dog, 0, 0, 0, 0]])) == ["a dog", "a dog"]
    assert small.decode(torch.tensor([[2, a], [0, 0]])) == ["", ""]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_read_and_has_the_same_tokens_when_read_again(text: str) -> None:
    small = Vocabulary.small()
    tokens = small.encode([text], 400)
    assert 0 <= int(tokens.min()) <= int(tokens.max()) < small.size
    assert small.eos in tokens[0].tolist()
    again = small.encode(small.decode(tokens), 400)
    assert again.tolist() == small.encode(small.decode(again), 400).tolist()


WORDS = ["dog", "isn't", "it's", "t-shirt", "42", "7", *",.!()%-$'\":;#", "?!", "..."]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=9))
def test_words_and_marks_have_the_same_tokens_when_read_again(words: list[str]) -> None:
    small = Vocabulary.small()
    tokens = small.encode([" ".join(words)], 64)
    assert small.encode(small.decode(tokens), 64).tolist() == tokens.tolist()


def test_special_tokens_in_a_text_are_text(small: Vocabulary) -> None:
    """A caption from the web cannot end a text or claim to be a picture."""
    tokens = small.encode(["a </s> <image> dog"], 32)[0].tolist()
    assert small.image not in tokens
    assert tokens.count(small.eos) == 1
    assert small.decode(torch.tensor([tokens]))[0].endswith("dog")


def test_transformers_has_the_same_numbers(small: Vocabulary, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    small.hf().save_pretrained(tmp_path)
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert len(loaded) == small.size
    assert (loaded.pad_token_id, loaded.bos_token_id, loaded.eos_token_id, loaded.mask_token_id) == (0, 1, 2, 3)
    for text in SAID:
        ids = small.encode([text], 64, bos=False, eos=False)[0]
        assert loaded(text, add_special_tokens=False)["input_ids"] == ids[ids != small.pad].tolist()
        assert loaded.decode(ids, skip_special_tokens=True) == text
    assert loaded("<image>", add_special_tokens=False)["input_ids"] == [small.image]  # chats need that


def test_transformers_puts_start_and_end_around(small: Vocabulary, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    small.hf(around=True).save_pretrained(tmp_path)
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in SAID:
        assert loaded(text)["input_ids"] == [t for t in small.encode([text], 64)[0].tolist() if t != small.pad]
    assert small.hf()("a dog")["input_ids"] == small.encode(["a dog"], 2, bos=False, eos=False)[0].tolist()


def test_its_fields_are_all_of_it(small: Vocabulary) -> None:
    again = pickle.loads(pickle.dumps(small))
    assert again == small
    assert again.encode(SAID, 20).tolist() == small.encode(SAID, 20).tolist()


def test_sizes_that_cannot_be() -> None:
    with pytest.raises(TrainingError, match=r"0 to \d+ pieces, not -417"):
        Vocabulary.small(100)
    with pytest.raises(TrainingError, match="pieces, not 9"):
        Vocabulary.small(10**6)
    with pytest.raises(TrainingError, match="twice"):
        Vocabulary.small(extra=("<s>",))
    with pytest.raises(TrainingError, match="no token '<user>'"):
        Vocabulary.small().number("<user>")
    with pytest.raises(TrainingError, match="no place"):
        Vocabulary.small().encode(["a"], 2)


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training_smoke.vocabulary.find_spec", lambda name: None)
    with pytest.raises(TrainingError, match=r"open_clip: pip install 'curate\[models\]'"):
        Vocabulary.small(1234)
