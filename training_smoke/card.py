"""The card of a trained model: README.md of a run's folder, or of a filter network's, from the files there alone.

    (folder / "README.md").write_text(card(folder))

Same files, same text. What comes from recipes, paths and machines stands in code spans: nothing in it can end one.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training_smoke import markdown
from training_smoke.errors import TrainingError
from training_smoke.families import FAMILIES
from training_smoke.markdown import fenced, table
from training_smoke.writers import read_metrics

CALLED = {
    "clip": "CLIP",
    "siglip": "SigLIP",
    "meru": "MERU",
    "siglip_caption": "SigLIP with SigLIP 2's caption term",
    "caption": "captioning alone (as CapPa)",
    "coca": "CoCa",
    "blip": "BLIP",
    "albef": "ALBEF",
    "blip2": "BLIP-2's first stage",
    "blip2_generate": "BLIP-2's second stage",
    "llava": "LLaVA",
    "simvlm": "prefix language modelling (as SimVLM)",
}
SHOWN = 10  # lines of the table of a training's course
NUMBERS = ("step", "samples", "loss", "grad_norm", "scale", "samples_per_s", "wait_share", "mfu")


def card(folder: Path) -> str:
    """README.md of a run's folder: what was trained, on what, how it went, how to load it.

    Raises:
        TrainingError: the folder is no run's.
    """
    config, packs, machine = (_read(folder / name) for name in ("config.json", "packs.json", "environment.json"))
    rows = [[code(url), code(digest[:16])] for url, digest in packs.items()]
    parts = [
        head(config["towers"]["name"], config["objective"]),
        f"# {code(folder.resolve().name)}\n",
        f"{what(config)} It was trained to compare the data that it was trained on with other data, not to be used.\n",
        f"## Data\n\n{table(['pack', 'sha256 of its manifest'], rows)}\n",
        course(read_metrics(folder)),
        scores(folder),
        settings(config),
        made_on(machine),
        loading("towers.pt" if (folder / "towers.pt").exists() else ".", config["objective"]),
    ]
    return "\n".join(p for p in parts if p)


def filter_card(folder: Path) -> str:
    """README.md of the folder of a filter network (`filter.json` there): data, numbers, and its use in a recipe.

    Raises:
        TrainingError: a file is missing or is none of ours.
    """
    about, machine = _read(folder / "filter.json"), _read(folder / "train" / "environment.json")
    config, tuned = about["config"], about["fine_tune"]
    runs = [("Training", "train", about["packs"], config)]
    if tuned is not None:
        runs.append(("Fine-tuning", "fine-tune", tuned["packs"], tuned["config"]))
    parts = [
        head(config["towers"]["name"], config["objective"]),
        f"# Data filtering network {code(folder.resolve().name)}\n",
        f"{what(config)} {PURPOSE_MERU if config['objective'] == 'meru' else PURPOSE} It is no model to build on.\n",
        averaged(about),
        IN_A_RECIPE_MERU if config["objective"] == "meru" else IN_A_RECIPE,
        *(f"## {title}\n\n{data(packs)}\n{course(read_metrics(folder / name), 3)}" for title, name, packs, _ in runs),
        *(settings(chosen, f"Settings of {name}") for _, name, _, chosen in runs),
        f"`filter.pt`: sha256 {code(about['filter.pt'])}.\n",
        made_on(machine),
        loading("filter.pt", config["objective"]),
        LIMITS,
    ]
    return "\n".join(p for p in parts if p)


# ---------------------------------------------------------------------------------------------- sections


def head(towers: str, objective: str) -> str:
    """The block that model hubs read."""
    tags = ["curate", objective, "image-text", towers]
    task = "image-to-text" if objective in FAMILIES else "zero-shot-image-classification"
    lines = [f"pipeline_tag: {task}", f"tags: {json.dumps(tags)}"]
    return "---\n" + "\n".join(lines) + "\n---\n"


def what(config: Mapping[str, Any]) -> str:
    """One sentence on model, objective and horizon."""
    towers = config["towers"]
    size = f" at {towers['image_size']} pixels" if towers["image_size"] else ""
    begun = f" that began with the weights {code(towers['weights'])}" if towers["weights"] else ""
    name = CALLED.get(config["objective"], code(config["objective"]))
    blind = ", all its pictures grey, as a control," if config.get("blind") else ""
    return (
        f"Towers {code(towers['name'])}{size}{begun}, trained{blind} with the objective of {name} on "
        f"{config['samples']:,} "
        f"samples seen, {config['batch']:,} at a time, seeds {config['init_seed']} (weights) and "
        f"{config['order_seed']} (order)."
    )


def data(packs: Sequence[Mapping[str, Any]]) -> str:
    rows = [[code(p["pack"]), f"{p['samples']:,}", code(p["digest"][:16]), f"{p['share']:g}"] for p in packs]
    return table(["pack", "samples", "sha256 of its manifest", "share"], rows) + "\n"


def averaged(about: Mapping[str, Any]) -> str:
    """How the weights in the file were made of those that were trained."""
    said = []
    if about["average"] is not None:
        kind, _, value = about["average"].partition(":")
        how = f"an exponential mean over steps (decay {value})"
        said.append(how if kind == "ema" else f"the mean of the last {value} of 20 points of the training")
    if about["wise"] is not None:
        said.append(f"{about['wise']:.0%} of the fine-tuned and the rest of those from before it")
    return f"The weights are {', then '.join(said)}.\n" if said else ""


def course(metrics: Sequence[Mapping[str, Any]], level: int = 2) -> str:
    """How the loss went and how fast it was, at some ten points."""
    if not metrics:
        return ""
    names = [n for n in NUMBERS if n in metrics[0]]
    places = sorted({round(i * (len(metrics) - 1) / max(1, SHOWN - 1)) for i in range(SHOWN)})
    rows = [[_number(metrics[i].get(n)) for n in names] for i in places]
    rate = statistics.median(m["samples_per_s"] for m in metrics) if "samples_per_s" in names else None
    fast = f" Median rate: {rate:,.0f} samples/s." if rate is not None else ""
    title = "#" * level + " How it went"
    return f"{title}\n\n{table(names, rows)}\n\nThe loss is of one batch.{fast} All in `metrics.jsonl`.\n"


def scores(folder: Path) -> str:
    """Evaluations that lie in the folder, where there are any."""
    found = [_read(path) for path in sorted((folder / "scores").glob("*.json"))]
    rows = sorted([code(f["dataset"]), code(f["task"]), _number(f["metrics"]["main_metric"])] for f in found)
    return f"## Scores\n\n{table(['set', 'task', 'main metric'], rows)}\n" if rows else ""


def settings(config: Mapping[str, Any], title: str = "Settings") -> str:
    """config.json, whole."""
    return f"## {title}\n\n{fenced(json.dumps(config, indent=1, sort_keys=True), 'json')}"


def made_on(machine: Mapping[str, Any]) -> str:
    packages = ", ".join(f"{n} {v}" for n, v in sorted(machine["packages"].items()) if v)
    spread = {"none": "", "ddp": " (DDP)", "fsdp": " (FSDP)"}.get(machine.get("sharding", "none"), "")
    return (
        f"## Made on\n\nSource {code(machine['source'])}, Python {code(machine['python'])}, {code(packages)}, on "
        f"{code(machine['device'])} ({code(machine['machine'])}), {machine['processes']} process(es){spread} with "
        f"{machine['threads']} thread(s). On a CPU the same source, packs and settings give the same weights.\n"
    )


PURPOSE = (
    "Its cosine of picture and text tells pairs that match from pairs that do not: a filter for training data, after "
    "Fang et al. 2023 (Data Filtering Networks)."
)
PURPOSE_MERU = (
    "How far apart picture and text lie in its hyperbolic space, and how specific each is, say which pairs to keep: "
    "a filter for training data, after Kim et al. 2024 (HYPE)."
)

IN_A_RECIPE = """\
## In a recipe

Scores of pairs are the column `clip_score` (`name: dfn` makes it `dfn_score`, beside other CLIPs'):

```yaml
columns:
  - clip_score: {weights: filter.pt, name: dfn}   # the path of filter.pt in this folder
filters:
  - id: dfn
    top_fraction: {column: dfn_score, fraction: 0.15, over: pool}
    on_missing: drop   # without a text, or with a picture that does not decode
```

A threshold of another model means nothing here: choose a fraction, or look at the scores (`curate report`).
"""


IN_A_RECIPE_MERU = """\
## In a recipe

Specificities and distance are the columns `hype_eps_i`, `hype_eps_t` and `hype_neg_d`, measured by pairs that \
`curate hype-reference PACK --weights filter.pt --out reference.npz` draws; their directions' cosine is `hype_cos`:

```yaml
columns:
  - hype: {weights: filter.pt, reference: reference.npz}   # the path of filter.pt in this folder
  - weighted_sum: {columns: {hype_eps_i: 1, hype_eps_t: 1, hype_neg_d: 1}, standardise: zscore, name: hype_score}
filters:
  - id: hype
    top_fraction: {column: hype_score, fraction: 0.2, over: pool}
    on_missing: drop   # without a text, or with a picture that does not decode
```

The built-in recipe `hype` adds a CLIP's cosine and ImageNet's clusters.
"""


def loading(path: str, objective: str) -> str:
    """How to have the model in Python."""
    return (LOADING_FAMILY if objective in FAMILIES else LOADING).format(path=path)


LOADING = """\
## In Python

```python
from training_smoke.towers_file import load_towers

towers = load_towers("{path}")
print(towers.encode_texts(towers.tokenize(["a red bicycle"])).shape)
```
"""

LOADING_FAMILY = """\
## In Python

```python
from training_smoke.towers_file import load_model

model = load_model("{path}")      # what it can do: training_smoke.abilities
print(type(model).__name__, model.image_size)
```
"""

LIMITS = """\
## Limits

It likes what its training pairs are like, and drops what they have not: languages, subjects and styles that are rare \
there get low scores. Compare what it keeps with a random subset of the same size (`curate compare`).
"""


# ---------------------------------------------------------------------------------------------- values


def code(text: object) -> str:
    """A code span; control characters are shown as numbers."""
    return markdown.code("".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in str(text)))


def _number(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as e:
        raise TrainingError(f"{path}: {e}; a card is made of the files of a run's folder") from e
