"""What a user gives to `hype`: towers trained with MERU for a second, and vectors of reference pairs by them.

The vectors are computed here by the towers themselves, and not by the stage that makes a user's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.recipes.material import Picture

SIDE, STEPS, PAIRS = 16, 20, 320


def hype(folder: Path, pictures: Sequence[Picture]) -> dict[str, str]:
    """name -> path: meru, hype_reference."""
    import torch

    from stages.hype_reference import Reference
    from stages.hyperbolic_weights import space
    from training_smoke.config import Config, Towers
    from training_smoke.models import build_model
    from training_smoke.objectives import MERU
    from training_smoke.towers import TwoTowers
    from training_smoke.towers_file import save_model

    config = Config(objective="meru", towers=Towers("tiny-conv", image_size=SIDE, context=12))
    model, objective = build_model(config), MERU()
    assert isinstance(model, TwoTowers)
    images = torch.from_numpy(np.stack([_square(p) for p in pictures[:PAIRS]])).permute(0, 3, 1, 2)
    tokens = model.tokenize([p.captions[0] for p in pictures[:PAIRS]])
    optimiser = torch.optim.AdamW([*model.parameters(), *objective.parameters()], lr=3e-3)
    draw = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        some = torch.randint(len(images), (64,), generator=draw)
        optimiser.zero_grad()
        objective(model.encode_images(images[some]), model.encode_texts(tokens[some])).backward()
        optimiser.step()
        objective.after_step()
    learned = {name: value.item() for name, value in objective.state_dict().items()}
    save_model(folder / "meru.pt", model, config, {"objective": learned})
    of = space(str(folder / "meru.pt"))
    with torch.inference_mode():
        image = model.encode_images(images[100:180]).numpy() * of.image
        text = model.encode_texts(tokens[180:300]).numpy() * of.text
    Reference(image.astype(np.float16), text.astype(np.float16), of).save(folder / "hype_reference.npz")
    return {"meru": str(folder / "meru.pt"), "hype_reference": str(folder / "hype_reference.npz")}


def _square(picture: Picture) -> np.ndarray:
    return np.asarray(picture.open().resize((SIDE, SIDE)))
