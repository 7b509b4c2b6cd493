"""What a user gives to recipes, made here and small: weights of CLIP-like models, lists, a dictionary.

given = make_given(folder, material)
given["b32"]                       # path of towers, trained for a second so that scores of pairs spread
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import ImageOps

from tests.conftest import SHARED
from tests.recipes.given_engine import engine
from tests.recipes.given_hype import hype
from tests.recipes.material import Material, Picture
from tests.stages.spacy_parts import save_pipeline
from tests.stages.text_model_parts import save_causal
from tests.stages.wordnet_parts import write_wordnet

SIDE = 16
PAIRS = 320


def make_given(folder: Path, material: Material) -> dict[str, str]:
    """name -> path, for `--set`; what a package is missing for is left out."""
    given = lists(folder, material) | dictionary(folder) | evaluation(folder, material.pictures)
    if find_spec("torch") and find_spec("open_clip"):
        given |= dict(towers(folder, material.pictures, {"b32": 20, "l14": 30}))
        given |= targets(folder, material.pictures, given["l14"])
        given |= heads(folder, np.load(given["targets"]).shape[1])
        given |= hype(folder, material.pictures)
    if find_spec("torch") and find_spec("transformers"):
        (folder / "language_model").mkdir()
        given["language_model"] = save_causal(folder / "language_model", positions=64)
        given |= engine(folder, material.pictures)
    if find_spec("spacy"):
        given["spacy_pipeline"] = save_pipeline(folder / "spacy_pipeline", steps=8)
    return given


def dictionary(folder: Path) -> dict[str, str]:
    """WordNet, the real one where it is installed, and a list of synsets that belongs to it."""
    real, listed = Path("/usr/share/wordnet"), SHARED / "classnames/imagenet21k_synsets.txt"
    if (real / "index.noun").is_file() and listed.is_file():
        return {"wordnet": str(real), "synsets": str(listed)}
    (folder / "wordnet").mkdir()
    offsets = write_wordnet(folder / "wordnet")["n"]
    of_things = sorted({at for word in ("dog", "man", "cat", "bus") for at in offsets[word]})
    (folder / "synsets.txt").write_text("".join(f"n{at:08d}\n" for at in of_things))
    return {"wordnet": str(folder / "wordnet"), "synsets": str(folder / "synsets.txt")}


def evaluation(folder: Path, pictures: Sequence[Picture]) -> dict[str, str]:
    """A set to evaluate on: pictures of the pool as they are, smaller, mirrored and turned, and some of no pool."""
    (folder / "evaluation" / "more").mkdir(parents=True)
    for i, p in enumerate(pictures[30:90]):
        file = folder / "evaluation" / ("more" if i % 3 else ".") / f"{i}.jpg"
        image = p.open()
        changed = (image.resize((150, 140)), ImageOps.mirror(image), image.rotate(90, expand=True), image.rotate(37))
        if i % 5:
            changed[i % 5 - 1].save(file, quality=80)
        else:
            file.write_bytes(p.image)
    return {"evaluation": str(folder / "evaluation")}


def heads(folder: Path, dim: int) -> dict[str, str]:
    """Heads on l14's vectors, random, so that each divides the pool."""
    import torch
    from torch import nn

    def saved(name: str, model: nn.Module) -> dict[str, str]:
        torch.save(model.state_dict(), folder / f"{name}.pt")
        return {name: str(folder / f"{name}.pt")}

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(2)
        aesthetic = nn.Linear(dim, 1)
        aesthetic.weight.mul_(20)
        aesthetic.bias.fill_(7.2)
        watermark = nn.Sequential(nn.Linear(dim, 16), nn.ReLU(), nn.Linear(16, 1))
        watermark[2].weight.mul_(40)
        unsafe = nn.Sequential(nn.BatchNorm1d(dim, eps=0))
        for number, (wide, narrow) in enumerate(pairwise((dim, 64, 512, 256, 1))):
            unsafe.append(nn.Linear(wide, narrow))
            if number < 3:
                unsafe.append(nn.ReLU())
        unsafe[0].running_var.fill_(1 / dim)
        unsafe[-1].weight.mul_(30)
        found = saved("aesthetic", aesthetic) | saved("watermark", watermark)
        return found | saved("unsafe", unsafe)


def targets(folder: Path, pictures: tuple[Picture, ...], weights: str) -> dict[str, str]:
    """Vectors of some pictures by l14, as .npy: (n, dim) float32."""
    import torch

    from training_smoke.towers_file import load_towers

    model = load_towers(weights)
    chosen = torch.from_numpy(np.stack([_square(p) for p in pictures[90:110]])).permute(0, 3, 1, 2)
    with torch.inference_mode():
        np.save(folder / "targets.npy", model.encode_images(chosen).numpy())
    return {"targets": str(folder / "targets.npy")}


def lists(folder: Path, material: Material) -> dict[str, str]:
    """Entries to match, for all texts and by language; words not wanted; texts wanted."""
    captions = [p.captions[0] for p in material.pictures]
    (folder / "metadata.json").write_text(json.dumps(entries([*captions, *material.alts], 600)))
    by_language = {"en": entries(captions, 400), "other": ["man", "hund", "в", "ich", "das", "la", "の", "в том"]}
    by_language |= {lang: entries(material.foreign[lang], 60) for lang in ("de", "fr") if lang in material.foreign}
    by_language["zh"] = ["人", "男人", "一个", "狗", "一只狗", "圆形", "red"]
    (folder / "metaclip2").mkdir()
    for lang, listed in by_language.items():
        (folder / "metaclip2" / f"{lang}.json").write_text(json.dumps(listed))
    parts = zip(
        ("b32_score", "l14_score", "dfn_score", "neg_clip_loss", "norm_sim"), (1, 2, -0.5, 0.7, 0.3), strict=True
    )
    mixer = {"bias": 0.1, "columns": {name: {"mean": 0.2, "std": 0.3, "weight": w} for name, w in parts}}
    (folder / "mixer.json").write_text(json.dumps(mixer))
    (folder / "profanity.txt").write_text("damn\nbloody hell\n")
    (folder / "captions.txt").write_text("\n".join(captions[::5]))
    names = ("metadata.json", "metaclip2", "profanity.txt", "captions.txt", "mixer.json")
    return {name.partition(".")[0]: str(folder / name) for name in names}


def entries(texts: Sequence[str], count: int) -> list[str]:
    """The most frequent words and pairs of words, some that are rare, and some that cannot match."""
    words = Counter(w for t in texts for w in t.split())
    pairs = Counter(" ".join(p) for t in texts for p in pairwise(t.split()))
    common = [w for w, _ in (words + pairs).most_common(count)]
    rare = sorted(w for w, n in words.items() if n == 1)[:60]
    return list(dict.fromkeys([*common, *rare, "U.S.", ".", "3", "dog", "hot dog", "New York", "no such entry"]))


def towers(folder: Path, pictures: tuple[Picture, ...], steps: dict[str, int]) -> Iterator[tuple[str, str]]:
    """Two tiny towers, trained on the pool's own pictures, as they are after so many steps: (name, path)."""
    import torch
    from torch.nn import functional as F

    from training_smoke.config import Towers
    from training_smoke.towers import build
    from training_smoke.towers_file import save_towers

    config = Towers("tiny-conv", image_size=SIDE, context=12)
    model = build(config, 0)
    images = torch.from_numpy(np.stack([_square(p) for p in pictures[:PAIRS]])).permute(0, 3, 1, 2)
    tokens = model.tokenize([p.captions[0] for p in pictures[:PAIRS]])
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    draw = torch.Generator().manual_seed(0)
    for step in range(1, max(steps.values()) + 1):
        some = torch.randint(len(images), (64,), generator=draw)
        scores = 5 * model.encode_images(images[some]) @ model.encode_texts(tokens[some]).T
        own = torch.arange(len(some))
        loss = F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        for name in (n for n, last in steps.items() if last == step):
            save_towers(folder / f"{name}.pt", model, config, {})
            yield name, str(folder / f"{name}.pt")


def _square(picture: Picture) -> np.ndarray:
    return np.asarray(picture.open().resize((SIDE, SIDE)))
