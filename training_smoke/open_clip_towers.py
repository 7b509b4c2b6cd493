"""Towers of open_clip: any of its configurations, weights by the name of a tag, or from a file or folder.

towers = open_clip_towers(Towers("ViT-B-32", "laion2b_s34b_b79k"))
towers = open_clip_towers(Towers("ViT-B-32", "exported"))       # a folder: open_clip's "local-dir:exported"
check(Towers("ViT-B-32", "openai"))          # raises: those weights want ViT-B-32-quickgelu
"""

from __future__ import annotations

from pathlib import Path

from training_smoke.config import Towers
from training_smoke.errors import TrainingError
from training_smoke.open_clip_files import check_folder, names_in, weights_in
from training_smoke.towers import LEARNED, OURS, OpenClip, TwoTowers


def open_clip_towers(towers: Towers) -> TwoTowers:
    """The towers of a configuration of open_clip's, with weights drawn by torch's generator, or loaded.

    Raises:
        TrainingError: no such towers or weights, or open_clip is not installed.
    """
    check(towers)
    import open_clip

    settings = open_clip.get_model_config(towers.name)
    size = towers.image_size or settings["vision_cfg"].get("image_size", 224)
    context = towers.context or settings["text_cfg"].get("context_length", 77)
    weights = _file(towers)
    biased = "init_logit_bias" in settings
    # Weights of a sigmoid loss have a bias, whether or not the configuration has a place for it.
    place = {} if biased or not _has_bias(weights) else {"init_logit_bias": 0.0}
    model = open_clip.create_model(
        towers.name,
        pretrained=weights,
        force_image_size=size,
        force_context_length=context,
        **place,
    )
    if towers.checkpointing:
        model.set_grad_checkpointing(True)
    found = OpenClip(model, open_clip.get_tokenizer(towers.name, context_length=context), size, context)
    if towers.weights is not None:
        found.learned = {n: p.item() for n in LEARNED if (p := getattr(model, n, None)) is not None}
    if place:
        model.logit_bias = None  # the objective has it from now on, and a file of these towers has none
    return found


def check(towers: Towers) -> None:
    """Is there what these towers are made of? Nothing is loaded or fetched.

    Raises:
        TrainingError: open_clip is not installed or has no such towers; weights that are no file and no tag of theirs,
            or a tag whose weights were trained with another activation: they would load, and be off.
    """
    try:
        import open_clip
    except ImportError as e:
        raise TrainingError(f"towers {towers.name!r} need open_clip: pip install 'curate[models]' ({e})") from e
    if towers.name not in open_clip.list_models():
        raise TrainingError(
            f"no towers {towers.name!r}: {', '.join(OURS)}, or one of open_clip's {len(open_clip.list_models())} "
            "(`python -c 'import open_clip; print(open_clip.list_models())'`)"
        )
    tags = open_clip.list_pretrained_tags_by_model(towers.name)
    if towers.weights is None or (towers.weights not in tags and Path(towers.weights).is_file()):
        return
    if towers.weights not in tags and Path(towers.weights).is_dir():
        return check_folder(Path(towers.weights), open_clip.get_model_config(towers.name), towers.name)
    if towers.weights not in tags:
        said = ", ".join(tags) or "none"
        raise TrainingError(f"{towers.weights}: no such file, and no weights of {towers.name} have this tag ({said})")
    quick = bool(open_clip.get_pretrained_cfg(towers.name, towers.weights).get("quick_gelu"))
    other = f"{towers.name}-quickgelu" if quick else towers.name.removesuffix("-quickgelu")
    if other == towers.name or other not in open_clip.list_models():
        return  # the only towers that these weights can be meant for, whatever open_clip's table of tags says
    if quick != bool(open_clip.get_model_config(towers.name).get("quick_gelu")):
        raise TrainingError(
            f"{towers.weights} of {towers.name} was trained with another activation: name the towers {other!r}"
        )


def _file(towers: Towers) -> str | None:
    """What open_clip is told: a tag, or the file of weights that is named or lies in a folder."""
    import open_clip

    said = towers.weights
    if said is None or said in open_clip.list_pretrained_tags_by_model(towers.name) or not Path(said).is_dir():
        return said
    return str(weights_in(Path(said)))


def _has_bias(weights: str | None) -> bool:
    """Is there a learned bias in a file of weights? Of those with a tag, the configuration says it."""
    if weights is None or not Path(weights).is_file() or Path(weights).suffix in (".npz", ".npy"):
        return False
    return "logit_bias" in names_in(Path(weights))
