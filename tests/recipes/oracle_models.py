"""Oracles of recipes that ask given models and lists: heads, masked pictures, WordNet, language models, votes, mixers.

What a large model says (vectors, perplexities, relations of a caption, gray levels of a picture) is read of the pool.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tests.recipes.oracle_parts import (
    clip_score,
    cosine,
    english,
    of_text,
    said,
    settled,
    sureness,
    texts,
    top_exactly,
    uniform,
    words,
)
from tests.recipes.oracle_rules import near_pictures
from tests.recipes.oracle_scores import laion_2b_en
from tests.recipes.oracle_vectors import neg_clip_loss, unit
from tests.recipes.oracle_views import are_of, picture, without_text
from tests.recipes.world import Chosen

# ---------------------------------------------------------------- LAION-Aesthetics


def head(seen: Chosen, name: str, layers: Iterable[tuple[np.ndarray, np.ndarray]], *, sigmoid: bool) -> pd.Series:
    """2.4: linear layers with ReLU between, on unit vectors."""
    x = unit(seen.vectors("l14_image"))
    for number, (weight, bias) in enumerate(layers):
        x = (np.maximum(x, 0) if number else x) @ weight.T + bias
    found = x[:, 0]
    return settled(seen, name, pd.Series(1 / (1 + np.exp(-found)) if sigmoid else found, seen.rows.index))


def linear(path: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights and biases of the linear layers of a file."""
    state = _state(path)
    names = [n.removesuffix("weight") for n, t in state.items() if n.endswith("weight") and t.ndim == 2]
    return [(state[f"{n}weight"], state[f"{n}bias"]) for n in names]


def _state(path: str) -> dict[str, np.ndarray]:
    import torch

    return {n: t.numpy().astype(np.float64) for n, t in torch.load(path).items()}


def laion_aesthetic(seen: Chosen, watermark: str, unsafe: str, aesthetic: str) -> pd.Series:
    """2.3: of LAION-2B-en, pwatermark < .8, punsafe < .5, aesthetic > 7."""
    layers = linear(unsafe)
    state = _state(unsafe)  # batch normalisation with eps 0 comes first
    scale = state["0.weight"] / np.sqrt(state["0.running_var"])
    shift = state["0.bias"] - state["0.running_mean"] * scale
    layers[0] = (layers[0][0] * scale, layers[0][1] + layers[0][0] @ shift)
    kept = laion_2b_en(seen, 0.28)
    kept &= head(seen, "pwatermark", linear(watermark), sigmoid=True) < np.float32(0.8)
    kept &= head(seen, "punsafe", layers, sigmoid=True) < np.float32(0.5)
    return kept & (head(seen, "aesthetic", linear(aesthetic), sigmoid=False) > 7)


# ---------------------------------------------------------------- T-MARS


def tmars(seen: Chosen, l14: str) -> pd.Series:
    """5.4; 10.15: without text a masked picture has its own vector bit for bit, and mostly covered ones have none."""
    masked, plain = seen.vectors("l14_masked_image"), seen.vectors("l14_image")
    cover, boxes = seen.column("text_cover").astype(float), seen.column("n_text_boxes")
    alone = (boxes == 0).to_numpy()
    assert alone.any()
    assert (masked[alone] == plain[alone]).all()
    assert (np.isnan(masked[:, 0]) == (cover > 0.9)).all()
    with_text = ((boxes > 0) & (cover > 0.05) & (cover <= 0.9)).to_numpy()
    assert with_text.sum() > 20
    assert (np.abs(masked - plain)[with_text].max(axis=1) > 0).mean() > 0.95
    some = seen.rows.index[with_text & (seen.rows["kind"] == "written on").to_numpy()][:5]
    found = seen.column("text_boxes")
    are_of(seen, "l14_masked_image", l14, {u: without_text(picture(seen, u), found[u]) for u in some})
    return top_exactly(cosine(seen, "l14_masked_image", "l14_text"), 0.5)


# ---------------------------------------------------------------- DataComp's text-based filter

ENDINGS = {
    "noun": [("s", ""), ("ses", "s"), ("ves", "f"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"),
             ("men", "man"), ("ies", "y")],
    "verb": [("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")],
    "adj": [("er", ""), ("est", ""), ("er", "e"), ("est", "e")],
    "adv": [],
}  # fmt: skip


@lru_cache(maxsize=1)
def _wordnet(folder: str) -> dict[str, tuple[dict[str, int], dict[str, list[str]]]]:
    """Part of speech -> (lemma -> offset of its first synset, exceptions)."""
    found = {}
    for part in ENDINGS:
        lines = (Path(folder) / f"index.{part}").read_text().splitlines()
        rows = [line.split() for line in lines if not line.startswith(" ")]
        first = {row[0]: int(row[-int(row[2])]) for row in rows}
        exceptions: dict[str, list[str]] = {}
        for row in (line.split() for line in (Path(folder) / f"{part}.exc").read_text().splitlines()):
            exceptions.setdefault(row[0], row[1:])
        found[part] = (first, exceptions)
    return found


def first_synset(word: str, folder: str) -> int | None:
    """4.4: `wordnet.synsets(word)[0].offset()` of NLTK 3.8: base forms of nouns, then verbs, adjectives, adverbs."""
    word = word.lower()
    for part, endings in ENDINGS.items():
        first, exceptions = _wordnet(folder)[part]
        if word in exceptions:
            forms = [word, *exceptions[word]]
        else:
            forms = [word, *_shorter([word], endings)]
            again = forms[1:]
            while again and not any(f in first for f in forms):
                again = _shorter(again, endings)
                forms = again
        for form in forms:
            if form in first:
                return first[form]
    return None


def _shorter(forms: list[str], endings: list[tuple[str, str]]) -> list[str]:
    return [f[: len(f) - len(old)] + new for f in forms for old, new in endings if f.endswith(old)]


def datacomp_text(seen: Chosen, synsets: str, wordnet: str) -> pd.Series:
    listed = {int(line[1:9]) for line in Path(synsets).read_text().splitlines() if line}
    names = of_text(seen, lambda t: any(first_synset(w, wordnet) in listed for w in t.split()), False)
    return english(seen) & names


# ---------------------------------------------------------------- models of texts


def points(seen: Chosen, language_model: str, most: int) -> pd.Series:
    """5.14: the lowest fifth; fewer than five tokens (here bytes) have no perplexity."""
    found = seen.column("perplexity").astype(np.float64)
    assert (found.isna() == (of_text(seen, lambda t: len(t.encode()), 0) < 5)).all()
    some = found.dropna().iloc[::97]
    ours = np.array([perplexity(str(texts(seen)[uid]), language_model, most) for uid in some.index])
    assert len(some) > 10
    assert np.allclose(some, ours, rtol=2e-4), pd.DataFrame({"pool": some, "oracle": ours})
    return top_exactly(-found, 0.2)


@lru_cache(maxsize=1)
def _speaks(folder: str) -> Any:
    import transformers

    return transformers.AutoTokenizer.from_pretrained(folder), transformers.AutoModelForCausalLM.from_pretrained(folder)


def perplexity(text: str, folder: str, most: int) -> float:
    """exp of minus the mean log-probability of each token, the first one after the token of a beginning."""
    import torch

    tokenizer, model = _speaks(folder)
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(tokens) == len(text.encode())
    ids = torch.tensor([[tokenizer.bos_token_id, *tokens[:most]]])
    with torch.inference_mode():
        surprise = -model.eval()(ids).logits[0, :-1].double().log_softmax(dim=1)
    return float(surprise.gather(1, ids[0, 1:, None]).mean().exp())


def diht_cat(seen: Chosen) -> pd.Series:
    """5.14: an object with a relation, and an action."""
    return english(seen) & (seen.column("complexity").fillna(0) >= 1) & (seen.column("actions").fillna(0) >= 1)


# ---------------------------------------------------------------- EcoDatum


def vote(values: pd.Series, drop_below: float, keep: float, keep_to: float = np.inf, drop_above: float = np.inf) -> Any:
    """5.8: two cut points, or four, as float32, which is what a pool stores; what is missing abstains."""
    x = values.astype(np.float32)
    low, high, least, most = map(np.float32, (drop_below, drop_above, keep, keep_to))
    found = np.where((x < low) | (x > high), -1, np.where((x >= least) & (x <= most), 1, 0))
    return np.where(x.isna(), 0, found)


def posterior(seen: Chosen, votes: pd.DataFrame) -> pd.Series:
    """The probability that a sample is good, given the votes (1, -1, 0) and the fitted chances of each."""
    table = seen.model("label_model", "model")
    bad, good = (np.array(table.column(n).to_pylist()) for n in ("bad", "good"))
    odds = np.zeros(len(votes))
    for i, name in enumerate(votes):
        vote = votes[name].to_numpy()
        ratio = np.log(good[2 * i : 2 * i + 2]) - np.log(bad[2 * i : 2 * i + 2])
        odds += np.where(vote == 0, 0, np.where(vote > 0, ratio[1], ratio[0]))
    return settled(seen, "vote", pd.Series(1 / (1 + np.exp(-odds)), votes.index))


def ecodatum(seen: Chosen) -> pd.Series:
    """Votes, a label model's posterior, the best 40 %, and of near-copies the one that fits its caption best."""
    score = cosine(seen, "l14_image", "l14_text")
    assert (seen.vectors("l14_flipped_image") != seen.vectors("l14_image")).any(axis=1).mean() > 0.9
    mirrored = cosine(seen, "l14_flipped_image", "l14_text")
    spoken = words(seen).where(said(seen))
    votes = {
        "mean": vote(seen.column("mean"), 20, 50, 205, 235),
        "sharpness": vote(seen.column("sharpness"), 50, 300),
        "lang_prob": vote(sureness(seen), 0.3, 0.7),
        "n_words": vote(spoken, 3, 5, 40, 80),
        "score": vote(score, 0.18, 0.25),
        "mirrored": vote(mirrored, 0.17, 0.24),
    }
    best = top_exactly(posterior(seen, pd.DataFrame(votes, seen.rows.index)), 0.4)
    rank = -(score.astype(np.float64) * 1e4).round().fillna(-1e9)
    return near_pictures(seen, best, 4, rank) & said(seen)


# ---------------------------------------------------------------- M-FLYT


def m_flyt_scs(seen: Chosen, mixer: str, batch: int) -> pd.Series:
    """5.9: a linear layer over standardised scores; batches of different samples by softmax, z - .15 for the drawn."""
    layer = json.loads(Path(mixer).read_text())
    scores = {"b32_score": clip_score(seen, "b32"), "l14_score": clip_score(seen, "l14")}
    scores |= {"dfn_score": clip_score(seen, "dfn"), "neg_clip_loss": neg_clip_loss(seen, 0.01)}
    scores |= {"norm_sim": seen.column("norm_sim").astype(np.float32)}
    mixed = pd.Series(layer["bias"], seen.rows.index)
    for name, part in layer["columns"].items():
        mixed = mixed + part["weight"] * (scores[name].astype(np.float64) - part["mean"]) / part["std"]
    z = settled(seen, "m_flyt", mixed).dropna().astype(np.float64)
    copies, left, lap = pd.Series(0, seen.rows.index), len(seen.rows), 0
    while left:
        wait = [-math.log1p(-uniform(0, f"soft_cap:{lap}", uid)) / math.exp(x) for uid, x in z.items()]
        drawn = pd.Series(wait, z.index).nsmallest(min(batch, left)).index
        copies[drawn] += 1
        z[drawn] -= 0.15
        left, lap = left - len(drawn), lap + 1
    return copies
