"""Encoder and decoder of our captioners: equal to torch's layers, to themselves without a cache, and blind ahead."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.training_smoke.families.captioner_parts import SIZE
from training_smoke.errors import TrainingError
from training_smoke.families.decoder import SIZES, Attention, Block, PatchEncoder, TextDecoder, Writer, causal
from training_smoke.generation import generate
from training_smoke.sampling import Sampling


@pytest.fixture
def decoder() -> TextDecoder:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        found = TextDecoder(SIZE).double().eval()
        found.tokens.weight.data.mul_(50)
    return found


def inputs(rows: int = 3, places: int = 9, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(tokens int64 [rows, places], memory [rows, 4, width])."""
    draws = torch.Generator().manual_seed(seed)
    memory = torch.randn(rows, 4, SIZE.width, generator=draws, dtype=torch.float64)
    return torch.randint(5, SIZE.vocabulary, (rows, places), generator=draws), memory


# ------------------------------------------------------------------------------------------- against torch


def into(attention: Attention, theirs: nn.MultiheadAttention) -> None:
    """Our weights, in torch's layer."""
    theirs.in_proj_weight.data = torch.cat([attention.query.weight, attention.key_value.weight]).data
    theirs.in_proj_bias.data = torch.cat([attention.query.bias, attention.key_value.bias]).data
    theirs.out_proj.load_state_dict(attention.out.state_dict())


def by_torch(block: Block, width: int, heads: int, looks: bool) -> nn.Module:
    kind = nn.TransformerDecoderLayer if looks else nn.TransformerEncoderLayer
    more: Any = {"dropout": 0.0, "activation": "gelu", "batch_first": True, "norm_first": True, "dtype": torch.float64}
    layer: nn.Module = kind(width, heads, 4 * width, **more).eval()
    parts = {"norm1": block.norm, "linear1": block.out[0], "linear2": block.out[2]}
    parts |= {"norm2": block.norm_look, "norm3": block.norm_out} if looks else {"norm2": block.norm_out}
    into(block.attend, layer.self_attn)  # type: ignore[arg-type]
    if looks:
        into(block.look, layer.multihead_attn)  # type: ignore[arg-type]
    for name, part in parts.items():
        getattr(layer, name).load_state_dict(part.state_dict())
    return layer


def test_text_layers_are_those_of_torch(decoder: TextDecoder) -> None:
    tokens, memory = inputs()
    x = decoder.tokens(tokens) + decoder.positions[:, :9]
    for block in decoder.layers():
        layer = by_torch(block, SIZE.width, SIZE.heads, looks=True)
        x = layer(x, memory, tgt_mask=~causal(9))
    torch.testing.assert_close(decoder(tokens, memory, causal(9)), decoder.norm(x), rtol=0, atol=1e-11)


def test_picture_layers_are_those_of_torch() -> None:
    encoder = PatchEncoder(replace(SIZE, image_size=32, stem="patch", patch=8)).double().eval()
    pixels = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    patches = pixels.unfold(2, 8, 8).unfold(3, 8, 8)  # [2, 3, 4, 4, 8, 8]
    rows = patches.permute(0, 2, 3, 1, 4, 5).reshape(2, 16, -1)  # row by row from the top left
    stem: Any = encoder.stem
    x = rows @ stem.weight.flatten(1).T + stem.bias + encoder.positions
    for block in encoder.blocks:
        assert isinstance(block, Block)
        x = by_torch(block, SIZE.width, SIZE.heads, looks=False)(x)
    torch.testing.assert_close(encoder(pixels), encoder.norm(x), rtol=0, atol=1e-11)


# ------------------------------------------------------------------------------------------- what is seen


def test_no_place_sees_what_comes_after_it(decoder: TextDecoder) -> None:
    tokens, memory = inputs()
    before = decoder(tokens, memory, causal(9))
    for place in range(9):
        other = tokens.clone()
        other[:, place] = (other[:, place] + 7) % SIZE.vocabulary
        after = decoder(other, memory, causal(9))
        assert after[:, :place].equal(before[:, :place])
        assert not after[:, place:].isclose(before[:, place:]).all(dim=2).any()


def test_every_patch_is_seen_but_what_a_mask_leaves_out(decoder: TextDecoder) -> None:
    tokens, memory = inputs()
    seen = torch.tensor([True, True, False, True]).view(1, 1, 1, 4)
    whole, part = decoder(tokens, memory, causal(9)), decoder(tokens, memory, causal(9), seen)
    for patch in range(4):
        other = memory.clone()
        other[:, patch] += 1
        assert not decoder(tokens, other, causal(9)).isclose(whole).all(dim=2).any()
        assert decoder(tokens, other, causal(9), seen).equal(part) == (patch == 2)
    torch.testing.assert_close(part, decoder(tokens, memory[:, [0, 1, 3]], causal(9)), rtol=0, atol=1e-11)


def test_inputs_stand_where_they_are_said_to(decoder: TextDecoder) -> None:
    tokens, memory = inputs(places=4)
    there = torch.tensor([[0, 1, 2, 3], [4, 5, 6, 7], [2, 3, 4, 5]])
    found = decoder(tokens, memory, causal(4), places=there)
    torch.testing.assert_close(found[:1], decoder(tokens[:1], memory[:1], causal(4)), rtol=0, atol=1e-12)
    moved = TextDecoder(SIZE).double()
    moved.load_state_dict(decoder.state_dict())
    moved.positions.data = decoder.positions.data.roll(-4, dims=1)
    torch.testing.assert_close(found[1:2], moved(tokens[1:2], memory[1:2], causal(4)), rtol=0, atol=1e-12)


# ------------------------------------------------------------------------------------------- with a cache


def test_token_by_token_is_all_at_once(decoder: TextDecoder) -> None:
    tokens, memory = inputs()
    writer, whole = Writer(decoder, memory), decoder.head(decoder(tokens, memory, causal(9)))
    state = writer.begin()
    for place in range(9):
        logits, state = writer.next(tokens[:, place], state)
        torch.testing.assert_close(logits, whole[:, place], rtol=0, atol=1e-10)


def test_rows_may_leave_come_twice_and_change_places(decoder: TextDecoder) -> None:
    tokens, memory = inputs(places=5)
    index = torch.tensor([2, 0, 2])
    writer = Writer(decoder, memory)
    state = writer.begin()
    for place in range(3):
        _, state = writer.next(tokens[:, place], state)
    state = writer.rows(state, index)
    whole = decoder.head(decoder(tokens[index], memory[index], causal(5)))
    for place in (3, 4):
        logits, state = writer.next(tokens[index, place], state)
        torch.testing.assert_close(logits, whole[:, place], rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", ["greedy", "beam"])
def test_what_is_written_with_a_cache_is_what_is_written_without(decoder: TextDecoder, kind: str) -> None:
    class Slow:
        def begin(self) -> tuple[Tensor, Tensor]:
            return torch.arange(3), torch.zeros(3, 0, dtype=torch.int64)

        def next(self, tokens: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            rows, said = state[0], torch.cat([state[1], tokens[:, None]], dim=1)
            hidden = decoder(said, memory[rows], causal(said.shape[1]))
            return decoder.head(hidden[:, -1]), (rows, said)

        def rows(self, state: tuple[Tensor, Tensor], index: Tensor) -> tuple[Tensor, Tensor]:
            return state[0][index], state[1][index]

    _, memory = inputs()
    how = Sampling(kind, max_tokens=8)  # type: ignore[arg-type]
    fast = generate(Writer(decoder, memory), 3, how, ["a", "b", "c"], 1, 2, 0)
    assert fast.tolist() == generate(Slow(), 3, how, ["a", "b", "c"], 1, 2, 0).tolist()


# ------------------------------------------------------------------------------------------- sizes


def test_pictures_are_of_whole_patches() -> None:
    with pytest.raises(TrainingError, match="image_size 30 is no multiple of the 8 pixels"):
        PatchEncoder(replace(SIZE, image_size=30))


@pytest.mark.parametrize(("name", "millions"), [("small", 22), ("base", 86), ("large", 303)])
def test_encoders_have_the_published_sizes(name: str, millions: int) -> None:
    """Of ViT-S/16, B/16 and L/16 without their heads (Steiner et al. 2021, table 2: 22, 86 and 303 or 304 million)."""
    with torch.device("meta"):
        count = sum(p.numel() for p in PatchEncoder(SIZES[name]).parameters())
    assert round(count / 1e6) == pytest.approx(millions, abs=1)
