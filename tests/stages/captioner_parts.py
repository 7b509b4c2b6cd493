"""Captioners with random weights in the layouts that published ones have, and pictures for them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from stages.base import Batch
from stages.captioner import Caption

PROMPT = "a picture of"
QUESTION = "What is it?"


def image(number: int, size: tuple[int, int] = (48, 40)) -> bytes:
    """A PNG of coarse noise, (width, height)."""
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    out = io.BytesIO()
    coarse.resize(size, Image.Resampling.NEAREST).save(out, "PNG")
    return out.getvalue()


def images(count: int) -> list[bytes]:
    return [image(i, (48 + 8 * (i % 3), 40)) for i in range(count)]


def batch_of(pictures: list[bytes], first: int = 0) -> Batch:
    """Samples whose uids are numbers from `first`."""
    uids = pa.array([(first + i).to_bytes(16, "big") for i in range(len(pictures))], pa.binary(16))
    return Batch.of(pa.table({"uid": uids}), pictures)


def said(stage: Caption, pictures: list[bytes], first: int = 0) -> list[Any]:
    """The column, where no sample has failed."""
    table = stage.run(batch_of(pictures, first))
    assert table.column("error").null_count == table.num_rows, table.column("error").to_pylist()
    return list(table.column(stage.name).to_pylist())


def opened(pictures: list[bytes]) -> list[Any]:
    return [Image.open(io.BytesIO(picture)).convert("RGB") for picture in pictures]


# ---------------------------------------------------------------- models


def packages() -> Any:
    pytest.importorskip("transformers", reason="transformers is not installed: caption is not tested")
    pytest.importorskip("open_clip", reason="open_clip is not installed: caption is not tested")
    torch = pytest.importorskip("torch", reason="torch is not installed: caption is not tested")
    torch.set_num_threads(1)
    return torch


def judge_blip() -> Any:
    from tests.training_smoke.families.blip_cases import made, moved

    return moved(made(), by=0.2)


def blip(folder: Path) -> str:
    """As Salesforce/blip-image-captioning-base lies on the hub."""
    judge_blip().export(folder)
    return str(folder / "captioning")


def judge_file(path: Path, model: Any, objective: str, settings: dict[str, Any], towers: Any) -> str:
    from training_smoke.config import Config
    from training_smoke.towers_file import save_model

    save_model(path, model, Config(objective=objective, settings=settings, towers=towers), {})
    return str(path)


def judge_blip_file(path: Path) -> str:
    from tests.training_smoke.families.blip_cases import SETTINGS, TOWERS

    return judge_file(path, judge_blip(), "blip", dict(SETTINGS), TOWERS)


def judge_coca_file(path: Path) -> str:
    from tests.training_smoke.families.mini_blip2 import shaken
    from training_smoke.config import Towers
    from training_smoke.families.coca import CoCa

    towers = Towers("tiny", image_size=32, context=12)
    model = CoCa.build(towers, {}, seed=0)
    shaken(model, by=0.2)
    return judge_file(path, model, "coca", {}, towers)


def blip2(folder: Path) -> str:
    from tests.training_smoke.families.mini_blip2 import mini, shaken
    from training_smoke.config import Towers
    from training_smoke.families.blip2_generate import Blip2Generate

    with mini():
        model = Blip2Generate.build(Towers("mini"), {}, seed=0)
    shaken(model, by=0.2)
    model.export(folder)
    return str(folder)


def blip2_of_t5(folder: Path, like: str) -> str:
    """Over a T5, with the processor of another folder."""
    import torch
    from transformers import AutoProcessor, Blip2Config, Blip2ForConditionalGeneration, T5Config

    from tests.training_smoke.families.mini_blip2 import shaken

    config = Blip2Config.from_pretrained(like)
    text = T5Config(
        vocab_size=config.text_config.vocab_size, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2,
        decoder_start_token_id=0, pad_token_id=0, eos_token_id=1, bos_token_id=1, tie_word_embeddings=False,
    )  # fmt: skip
    config = Blip2Config(
        vision_config=config.vision_config.to_dict(), qformer_config=config.qformer_config.to_dict(),
        text_config=text.to_dict(), num_query_tokens=config.num_query_tokens,
        image_token_index=config.image_token_index,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Blip2ForConditionalGeneration(config)
    shaken(model, by=0.2)
    model.save_pretrained(folder)
    AutoProcessor.from_pretrained(like).save_pretrained(folder)
    return str(folder)


def llava(folder: Path) -> str:
    from tests.training_smoke.families.llava_parts import exported, mini

    return exported(mini(context=128, template="vicuna"), folder)


def qwen(folder: Path, newer: bool) -> str:
    """Qwen2-VL, or Qwen2.5-VL where newer: pictures in native resolution, positions in three dimensions."""
    import torch
    import transformers as tf

    from tests.training_smoke.families.mini_blip2 import shaken
    from training_smoke.vocabulary import Vocabulary

    names = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    vocabulary = Vocabulary.small(1024, extra=names)
    tokenizer = vocabulary.hf()
    start, end, pad, video = (tokenizer.convert_tokens_to_ids(name) for name in names)
    tokenizer.image_token, tokenizer.video_token = names[2:]
    vision: dict[str, Any] = {"depth": 2, "num_heads": 2, "patch_size": 8, "in_channels": 3, "in_chans": 3}
    vision |= {"hidden_size": 32}
    if newer:
        vision |= {"out_hidden_size": 32, "intermediate_size": 64, "fullatt_block_indexes": [1], "window_size": 32}
    else:
        vision |= {"embed_dim": 32, "mlp_ratio": 2}
    text = {
        "vocab_size": 1024, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 512,
        "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4},
        "bos_token_id": vocabulary.bos, "eos_token_id": vocabulary.eos, "pad_token_id": vocabulary.pad,
    }  # fmt: skip
    kind = "Qwen2_5_VL" if newer else "Qwen2VL"
    config = getattr(tf, f"{kind}Config")(
        vision_config=vision, text_config=text, image_token_id=pad, video_token_id=video,
        vision_start_token_id=start, vision_end_token_id=end, tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(0)
    model = getattr(tf, f"{kind}ForConditionalGeneration")(config)
    shaken(model, by=0.2)
    model.generation_config.eos_token_id = [vocabulary.eos, 7]
    model.generation_config.pad_token_id = vocabulary.pad
    model.save_pretrained(folder)
    sizes: dict[str, Any] = {"patch_size": 8, "merge_size": 2, "size": {"shortest_edge": 256, "longest_edge": 4096}}
    getattr(tf, "Qwen2_5_VLProcessor" if newer else "Qwen2VLProcessor")(
        image_processor=tf.Qwen2VLImageProcessor(**sizes),
        tokenizer=tokenizer,
        video_processor=tf.Qwen2VLVideoProcessor(**sizes),
        chat_template=(
            "{% for m in messages %}{% for c in m.content %}{% if c.type == 'image' %}<|vision_start|><|image_pad|>"
            "<|vision_end|>{% else %}{{ c.text }}{% endif %}{% endfor %}{% endfor %} answer:"
        ),
    ).save_pretrained(folder)
    return str(folder)
