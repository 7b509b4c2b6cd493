"""Parts of pictures, mirrored: what fine-tuning shows of them."""

from __future__ import annotations

import torch

from curate.run.capfilt.half import JUDGING, Half
from curate.run.capfilt.vary import DRAWS, LEAST, varied
from tests.training_smoke.families.blip_cases import CAPTIONS, MOMENT, SETTINGS, TOWERS, pictures

SIDE = 32


def ramps() -> torch.Tensor:
    """uint8 [1, 3, SIDE, SIDE]: red tells the column, green the row."""
    along = torch.arange(SIDE, dtype=torch.uint8) * 4
    red, green = along.expand(SIDE, SIDE), along[:, None].expand(SIDE, SIDE)
    return torch.stack([red, green, torch.zeros_like(red)])[None]


def draws(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, DRAWS, generator=torch.Generator().manual_seed(seed))


def test_the_whole_picture_is_itself_and_mirrored_itself_the_other_way_round() -> None:
    whole = torch.tensor([[1.0, 0.5, 0.3, 0.7, 0.9], [1.0, 0.5, 0.3, 0.7, 0.1]])
    own, mirrored = varied(ramps().expand(2, -1, -1, -1), whole)
    assert torch.equal(own, ramps()[0])
    assert torch.equal(mirrored, ramps()[0].flip(2))


def test_it_is_a_part_of_at_least_half_upright_and_for_half_of_them_mirrored() -> None:
    seen = varied(ramps().expand(400, -1, -1, -1), draws(400)).float()
    across = (seen[:, 0, :, -1] - seen[:, 0, :, 0]).mean(1) / 4 / (SIDE - 1)  # of the width; below 0 where mirrored
    down = (seen[:, 1, -1] - seen[:, 1, 0]).mean(1) / 4 / (SIDE - 1)
    area = across.abs() * down
    assert down.min() > 0.6
    assert LEAST * 0.85 < area.min() < 0.6 < 0.9 < area.max() <= 1  # what did not fit is less than was drawn
    assert 0.4 < (across < 0).float().mean() < 0.6
    assert seen[:, 0].max() <= 4 * (SIDE - 1)
    assert seen[:, 2].max() == 0


def test_the_same_draws_show_the_same_and_others_do_not() -> None:
    pictures = ramps().expand(4, -1, -1, -1)
    assert torch.equal(varied(pictures, draws(4)), varied(pictures, draws(4)))
    assert not torch.equal(varied(pictures, draws(4)), varied(pictures, draws(4, seed=1)))


def test_under_autocast_it_is_the_same_to_the_bit() -> None:
    """Training is; in bfloat16 places in a picture are known to some 1/256 of its half."""
    pictures = torch.randint(0, 256, (4, 3, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        seen = varied(pictures, draws(4))
    assert torch.equal(seen, varied(pictures, draws(4)))


def test_a_half_is_shown_them_in_training_alone() -> None:
    images = pictures()
    plain, vary = (Half.build(TOWERS, SETTINGS | {"losses": list(JUDGING), "vary": on}, seed=0) for on in (False, True))
    tokens = plain.tokenize(CAPTIONS)
    for training in (True, False):
        losses = [m.train(training)(images, tokens, None, MOMENT)["loss"].item() for m in (plain, vary)]
        assert (losses[0] != losses[1]) is training
