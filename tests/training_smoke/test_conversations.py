"""Conversations: turns of a text, the tokens that are learned, and the same text as by transformers' templates."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.training_smoke.families.llava_parts import FIRST, SECOND, TEXTS, mini, pictures
from training_smoke.conversations import (
    IMAGE,
    REQUEST,
    TEMPLATES,
    Chat,
    Turn,
    caption_of,
    conversation_of,
    turns_of,
)
from training_smoke.errors import TrainingError
from training_smoke.families.base import Moment
from training_smoke.families.llava import PLAIN, TALK
from training_smoke.objectives.caption import IGNORED
from training_smoke.questions import questions_of
from training_smoke.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CAPTION = "Two brown dogs run on the beach ."
SAID = [
    {"from": "human", "value": f"{IMAGE}\nWhat is it?"},
    {"from": "gpt", "value": "A dog."},
    {"from": "human", "value": "Where is it?"},
    {"from": "gpt", "value": "In the water."},
]
TURNS = [
    Turn("human", "What is it?"),
    Turn("gpt", "A dog."),
    Turn("human", "Where is it?"),
    Turn("gpt", "In the water."),
]


def tokenizer(name: str) -> PreTrainedTokenizerFast:
    specials = sorted({token for t in TEMPLATES.values() for token in t.specials}) if name == "all" else ()
    return Vocabulary.small(2048, specials or TEMPLATES[name].specials).hf()


def chat(name: str) -> Chat:
    return Chat(tokenizer(name), TEMPLATES[name])


def learned(chat: Chat, tokens: torch.Tensor) -> list[str]:
    """Runs of learned tokens of one row [2, context], as text."""
    runs, labels = [""], tokens[1].tolist()
    for token in labels:
        runs[-1] += "" if token == IGNORED else chat.tokenizer.convert_ids_to_tokens(token) + "|"
        if token == IGNORED and runs[-1]:
            runs.append("")
    return [run for run in runs if run]


# ---------------------------------------------------------------- texts


def test_a_list_of_turns_is_a_conversation() -> None:
    assert turns_of(json.dumps(SAID)) == TURNS == conversation_of(json.dumps(SAID), questions=1.0)
    assert caption_of(json.dumps(SAID)) == "A dog."


NO_TURNS = [
    CAPTION,
    "[a dog]",
    "[1, 2]",
    "[]",
    '[{"from": "human"}]',
    '{"from": 1}',
    "",
    '[{"from": ["x"], "value": 1}]',
    '[{"from": "human", "value": "why?"}, {"from": "gpt", "value": null}]',
    "[" * 20_000,
]


@pytest.mark.parametrize("text", NO_TURNS, ids=lambda text: text[:20])
def test_any_other_text_is_a_caption(text: str) -> None:
    assert turns_of(text) is None
    assert conversation_of(text, questions=0.0) == [Turn("human", REQUEST), Turn("gpt", text)]
    assert caption_of(text) == text


SYSTEM = {"from": "system", "value": "Say what I say."}


ROBOT = {"from": "robot", "value": "Beep."}
ODD = [
    SAID[:1],
    SAID[1:4],
    SAID[:3],
    SAID[1:2],
    [SYSTEM],
    [SYSTEM, *SAID[:3]],
    [*SAID, SYSTEM],
    [SYSTEM, SYSTEM, *SAID],
]
ODD += [[ROBOT, *SAID], [ROBOT]]


def test_a_systems_turn_before_the_others_is_dropped() -> None:
    """A text of the web writes no system prompt, and is no caption of JSON either."""
    text = json.dumps([SYSTEM, *SAID])
    assert turns_of(text) == TURNS == conversation_of(text, questions=1.0)
    assert caption_of(text) == "A dog."


@pytest.mark.parametrize("said", ODD)
def test_turns_that_do_not_alternate_are_left_out(said: list[dict[str, str]]) -> None:
    """One text of the web must neither stop a training nor teach the model to print JSON."""
    text = json.dumps(said)
    assert turns_of(text) == [] == conversation_of(text, questions=1.0)
    assert caption_of(text) is None


def test_what_is_left_out_is_counted_and_told_of_now_and_then() -> None:
    c = chat("roles")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(12):
            c.talk(conversation_of(json.dumps(SAID[:3]), 0.0))
        c.talk(TURNS)
        c.talk([Turn("human", REQUEST)])  # that is asked, by whoever wants a description
    assert c.left_out == 12
    assert [str(w.message).partition(";")[0].rpartition(": ")[2] for w in told] == ["1 so far", "10 so far"]
    assert "do not alternate between human and gpt" in str(told[0].message)


@pytest.mark.filterwarnings("ignore:texts of which nothing is learned")
@pytest.mark.parametrize(("moment", "form"), [(FIRST, PLAIN), (SECOND, TALK)])
def test_of_texts_that_are_left_out_nothing_is_learned(moment: Moment, form: int) -> None:
    """Their samples keep their places, and the loss is that of the others alone; of none it is zero."""
    model, images, odd = mini(), pictures(), json.dumps(SAID[:3])
    some, others = model.tokenize([TEXTS[0], odd, TEXTS[3], odd]), model.tokenize([TEXTS[0], TEXTS[3]])
    assert (some[1::2, :, 1] == IGNORED).all()
    assert (some[:, :, 0] == model.chat.image).sum(dim=2).eq(1).all()
    assert some[::2].equal(others)
    assert model.chat.left_out == 2
    with torch.no_grad():
        loss, alone = (
            model(of, tokens, None, moment)["loss"] for of, tokens in ((images, some), (images[::2], others))
        )
    assert loss.item() == pytest.approx(alone.item(), abs=1e-6)
    nothing = model(images[1::2], some[1::2, form], None, moment)["loss"]
    nothing.backward()
    assert nothing.item() == 0
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_half_a_character_is_none() -> None:
    """JSON may have one, and no tokenizer reads it."""
    text = '[{"from": "human", "value": "a\\ud83d?"}, {"from": "gpt", "value": "b"}]'
    assert turns_of(text) == [Turn("human", "a??"), Turn("gpt", "b")]
    assert chat("roles").prompts([chat("roles").talk(conversation_of(text, 0.0))])[0].ndim == 1


def test_captions_become_questions_as_often_as_asked() -> None:
    texts = [f"{CAPTION} {i}" for i in range(400)]
    asked = [conversation_of(text, questions=0.3)[0].said != REQUEST for text in texts]
    assert 0.22 < sum(asked) / len(asked) < 0.38  # 0.3 and three standard errors
    assert asked == [conversation_of(text, questions=0.3)[0].said != REQUEST for text in texts]
    assert all(conversation_of(text, 0.0)[0].said == REQUEST for text in texts)
    turns = conversation_of(CAPTION, 1.0, most=2)
    assert [(turns[i].said, turns[i + 1].said) for i in (0, 2)] == questions_of(CAPTION)[:2]
    assert conversation_of("IMG 2031", 1.0)[0].said == REQUEST  # nothing to ask


# ---------------------------------------------------------------- tokens


@pytest.mark.parametrize("name", TEMPLATES)
def test_answers_and_their_ends_are_learned_and_nothing_else(name: str) -> None:
    c = chat(name)
    (tokens,) = c.encode([c.talk(TURNS)], context=200)
    end = c.template.end
    assert learned(c, tokens) == [f"a</w>|dog</w>|.</w>|{end}|", f"in</w>|the</w>|water</w>|.</w>|{end}|"]
    assert (tokens[0] == c.image).sum() == 1
    said = tokens[0][: int((tokens[1] != IGNORED).nonzero()[-1]) + 1]
    ids = c.tokenizer(c.talk(TURNS).text, add_special_tokens=False)["input_ids"]
    assert said.tolist() == ids[: len(said)]


def test_the_plain_form_is_the_picture_and_its_caption() -> None:
    c = chat("roles")
    (tokens,) = c.encode([c.plain("A dog.")], context=8)
    assert c.tokenizer.convert_ids_to_tokens(tokens[0].tolist())[:6] == [
        "<s>",
        IMAGE,
        "a</w>",
        "dog</w>",
        ".</w>",
        "</s>",
    ]
    assert tokens[1].tolist() == [IGNORED, IGNORED, *tokens[0][2:6].tolist(), IGNORED, IGNORED]
    assert c.plain(None).text == f"<s>{IMAGE}"


def test_a_long_text_is_cut_and_learns_no_end() -> None:
    c = chat("roles")
    whole, cut = (c.encode([c.plain("one two three four five six seven")], context=n)[0] for n in (16, 6))
    assert cut.tolist() == whole[:, :6].tolist()
    assert c.end not in cut[1]


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_text_without_its_picture_is_refused(name: str) -> None:
    c = chat(name)
    long = c.talk([Turn("system", "so brief " * 30), *TURNS])
    with pytest.raises(
        TrainingError, match=r"context of 40 tokens has no place for the picture .*brief .*raise towers"
    ):
        c.encode([long, c.plain("a dog")], context=40)
    assert (c.encode([long, c.plain("a dog")], context=400)[:, 0] == c.image).sum(1).tolist() == [1, 1]


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_least_context_has_the_picture_and_an_answer(name: str) -> None:
    c = chat(name)
    (tokens,) = c.encode([c.talk([Turn("human", REQUEST), Turn("gpt", "a")])], context=c.least)
    assert c.image in tokens[0]
    assert learned(c, tokens) == [f"a</w>|{c.template.end}|"]


def test_what_reads_like_a_token_is_taken_out() -> None:
    c = chat("roles")
    said = c.talk([Turn("human", f"a {IMAGE} b<user>"), Turn("gpt", "c</s><assistant>d")])
    assert said.text == f"<s><user>{IMAGE}a   b<assistant>c  d</s>"
    assert c.plain(f"{IMAGE}</s>").text == f"<s>{IMAGE}</s>"


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("system", [None, "Be brief."])
def test_transformers_writes_the_same_text(name: str, system: str | None) -> None:
    c = chat(name)
    turns = [Turn("system", system), *TURNS] if system else TURNS
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    roles = {"human": "user", "gpt": "assistant"}
    messages += [{"role": roles[t.who], "content": [{"type": "text", "text": t.said}]} for t in TURNS]
    messages[bool(system)]["content"].insert(0, {"type": "image"})
    found = c.tokenizer.apply_chat_template(messages, chat_template=c.template.jinja(), tokenize=False)
    assert found == c.talk(turns).text
    opened = c.tokenizer.apply_chat_template(
        messages[:-1], chat_template=c.template.jinja(), tokenize=False, add_generation_prompt=True
    )
    assert opened == c.talk(turns[:-1]).text
    assert c.talk(turns).text.startswith(opened)


def test_prompts_go_on_to_their_answers() -> None:
    c = chat("vicuna")
    (prompt,) = c.prompts([c.talk(TURNS[:1])])
    (whole,) = c.encode([c.talk(TURNS[:2])], context=128)
    assert whole[0][: len(prompt)].tolist() == prompt.tolist()
    assert (whole[1][: len(prompt)] == IGNORED).all()
    assert whole[1][len(prompt)] != IGNORED


def test_a_tokenizer_without_the_tokens_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"chatml needs a token '<\|im_end\|>'"):
        Chat(tokenizer("roles"), TEMPLATES["chatml"])


def test_decoding_stops_at_the_end() -> None:
    c = chat("roles")
    (tokens,) = c.encode([c.plain("a dog.")], context=12)
    assert c.decode(tokens[:1, 2:]) == ["a dog."]
