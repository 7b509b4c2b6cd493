"""What a user gives to recipes with captions: captioners, filters, language models and sentence encoders, all tiny.

Their weights are random: what they say is no language, and differs from picture to picture.
"""

from __future__ import annotations

from pathlib import Path

from tests.stages.captioner_parts import blip, blip2, judge_blip_file, judge_coca_file, llava
from tests.stages.sentence_parts import save_encoder
from tests.stages.text_model_parts import libraries, save_causal


def captioners(folder: Path) -> dict[str, str]:
    """name -> path: captioner, filter, blip_large, blip2, llava, coca, minilm, writer."""
    (folder / "minilm").mkdir()
    return {
        "captioner": judge_blip_file(folder / "captioner.pt"),
        "filter": filter_file(folder / "filter.pt"),
        "blip_large": blip(folder / "blip_large"),
        "blip2": blip2(folder / "blip2"),
        "llava": llava(folder / "llava"),
        "coca": judge_coca_file(folder / "coca.pt"),
        "minilm": save_encoder(folder / "minilm"),
        "writer": writer(folder / "writer"),
    }


def filter_file(path: Path) -> str:
    """A BLIP whose answers lie on both sides of a half."""
    from tests.training_smoke.families.blip_cases import SETTINGS, TOWERS, made, moved
    from training_smoke.config import Config
    from training_smoke.towers_file import save_model

    save_model(path, moved(made(), 0.15), Config(objective="blip", settings=SETTINGS, towers=TOWERS), {})
    return str(path)


def writer(folder: Path) -> str:
    """A causal model over bytes with room for a prompt, which says many things and comes to an end."""
    transformers = libraries()
    folder.mkdir()
    model = transformers.GPT2LMHeadModel.from_pretrained(save_causal(folder, positions=2400))
    model.transformer.wte.weight.data.mul_(0.1)
    model.save_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.eos_token = "<fill>"
    tokenizer.save_pretrained(folder)
    return str(folder)
