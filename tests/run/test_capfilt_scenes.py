"""CapFilt on drawn scenes, half of the web's texts swapped: a tiny BLIP learns enough to tell them, and to write."""

from __future__ import annotations

import io
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import curate
from curate.demo.draw import draw
from curate.demo.scenes import PALETTE, Scene, english, scene
from curate.run.capfilt.main import Asked, capfilt
from curate.run.capfilt.recipe import RECIPE, Web
from curate.run.capfilt.start import Start
from tests.run.packing import WEB
from tests.tiny import sample
from tests.training_smoke.pack_parts import packed
from training_smoke.config import scale
from training_smoke.packs import Pack
from training_smoke.towers_file import save_model
from training_smoke.train import train

CLEAN, SHOWN = 400, 120
STEPS = 280


def scenes(number: int, first: int) -> list[Scene]:
    """Of one kind of shape each."""
    return list(islice((s for s in map(scene, count(first)) if len(s.groups) == 1), number))


def jpeg(of: Scene) -> bytes:
    out = io.BytesIO()
    draw(of).resize((48, 48)).save(out, "JPEG", quality=90)
    return out.getvalue()


def shown(of: list[Scene], texts: list[str], first: int) -> list[dict[str, Any]]:
    return [
        sample(first + i, image=jpeg(s), format="jpg", emit=WEB, text=text)
        for i, (s, text) in enumerate(zip(of, texts, strict=True))
    ]


def web_texts(of: list[Scene]) -> list[str]:
    """Of each odd picture the text of the one after next."""
    own = [english(s, 0) for s in of]
    return [own[(i + 2) % len(own)] if i % 2 else text for i, text in enumerate(own)]


@pytest.mark.slow
def test_the_filter_tells_swapped_texts_and_captions_are_of_their_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path / "cache"))
    known, unknown = scenes(CLEAN, 0), scenes(SHOWN, 50_000)
    texts = web_texts(unknown)
    clean = Pack.open(packed(tmp_path / "clean", shown(known, [english(s, 0) for s in known], 0), samples=250))
    web = packed(tmp_path / "web", shown(unknown, texts, CLEAN), samples=100)
    begun = scale("tiny", "blip").but(
        towers={"image_size": 32, "context": 16}, settings={"patch": 8, "width": 64, "image_layers": 1},
        batch=32, samples=32 * STEPS, optimiser={"lr": 2e-3, "warmup": 320},
    )  # fmt: skip
    save_model(tmp_path / "blip.pt", train(tmp_path / "blip", begun, {clean: 1.0}), begun, {})

    start = Start.of(str(tmp_path / "blip.pt"), batch=32)
    found = capfilt(Asked(start, Web.of(str(web)), clean, tmp_path / "out", epochs=2), "inline")

    rows = curate.open(str(tmp_path / "out" / "pool"), str(tmp_path / "out" / RECIPE)).sql(
        "SELECT url, text, itm, synthetic, synthetic_itm FROM samples WHERE starts_with(list, 'web@')"
    )
    of_url = {s["url"]: number for number, s in enumerate(shown(unknown, texts, CLEAN))}
    pairs = [(of_url[url], *more) for url, *more in rows.fetchall()]
    assert len(pairs) == SHOWN
    right = np.array([itm for n, _, itm, *_ in pairs if texts[n] == english(unknown[n], 0)])
    wrong = np.array([itm for n, _, itm, *_ in pairs if texts[n] != english(unknown[n], 0)])
    auroc = ((right[:, None] > wrong).mean() + (right[:, None] >= wrong).mean()) / 2
    assert auroc >= 0.8
    assert 0.4 < found["web"]["rejected"] < 0.95  # half of them are wrong, and a tiny model is not sure of all others
    assert found["synthetic"]["rejected"] < (wrong <= 0.5).mean()
    assert found["synthetic"]["distinct"] >= 0.5
    assert sum(colour_of(unknown[n]) in text.split() for n, _, _, text, _ in pairs) > SHOWN / 2  # by chance: an eighth
    assert found["pairs"] == CLEAN + found["web"]["matches"] + found["synthetic"]["matches"]


def colour_of(of: Scene) -> str:
    assert of.groups[0].colour in PALETTE
    return of.groups[0].colour
