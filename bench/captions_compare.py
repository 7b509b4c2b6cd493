"""Raw texts, filtered ones, CapFilt and two mixes, under CLIP and BLIP: which trains the better model here?

    python bench/captions_compare.py [--quick] [--write]     # --write: tables to docs/captions.md

One `curate compare` a family over the pool of bench/captions_work.py, whose pictures are half clean pairs and half a
web with half of its captions swapped; three seeds, as many samples seen by all. Recipes: raw is the control no_filter,
`filtered` keeps web texts that the filter calls a match, `capfilt` these and captions that it calls one, `mix_half` has
every web picture with its own text or the caption, a half each, `mix_recap` with 0.8 and 0.2; clean pairs are in all.
Nothing is claimed beforehand: whatever comes out is told.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import yaml
from captions_work import FIRST, SEEDS, Made, prepared, recipe_file, run_in
from common import ROOT, SHARED, WORK, Bar, bar, finish
from families_compare import told
from families_page import NONE, differences, of, put_into, scores, sentences

from training_smoke.markdown import table

IS_CLEAN = "starts_with(list, 'clean_pairs_')"
PRIMARY = {"clip": "flickr8k/positive_rank", "blip": "flickr8k/cider"}
MATCH = {"web": "itm > 0.5", "synthetic": "synthetic_itm > 0.5"}
EMITS: Mapping[str, list[dict[str, Any]]] = {
    "filtered": [{"texts": [{"source": "web"}], "where": f"{IS_CLEAN} or {MATCH['web']}"}],
    "capfilt": [
        {"texts": [{"source": "web"}], "where": f"{IS_CLEAN} or {MATCH['web']}"},
        {"texts": [{"source": "synthetic"}], "where": f"not {IS_CLEAN} and {MATCH['synthetic']}"},
    ],
    "mix_half": [
        {"texts": [{"source": "web", "p": 0.5}, {"source": "synthetic", "p": 0.5, "where": f"not {IS_CLEAN}"}]}
    ],
    "mix_recap": [
        {"texts": [{"source": "web", "p": 0.8}, {"source": "synthetic", "p": 0.2, "where": f"not {IS_CLEAN}"}]}
    ],
}

HEAD = """\
`python bench/captions_compare.py --write` writes this part: {n} seeds from {first}, scale `tiny`, on {device}. Half of
Flickr8k's pictures are clean pairs, the others a web with half of its captions swapped; captioner and filter come of
`curate capfilt` and the clean pairs. What decides was fixed beforehand: {primaries}.
"""


def measure(quick: bool) -> dict[str, Bar]:
    """quick: CLIP for a few steps of one seed: that it runs, not what it says."""
    if not SHARED.is_dir():
        print(f"no real data at {SHARED}: nothing is compared")
        return {"captions_compared": bar(None, "data at ../shared/data", None)}
    made = prepared(FIRST, quick)
    write_recipes(made)
    bars: dict[str, Bar] = {}
    both: dict[str, Any] = {}
    for family in ("clip",) if quick else PRIMARY:
        found = both[family] = compared(made, family, 1 if quick else SEEDS, 512 if quick else None)
        counts = {e["name"]: len(of(e)) for e in found["entries"]}
        whole = counts == dict.fromkeys([*EMITS, NONE], 1 if quick else SEEDS)
        bars[f"{family}_compared_whole"] = bar(whole, True, None if quick else whole)
        bars |= {f"{family}_{name}_over_raw": bar(told(found, name), None, None) for name in EMITS}
    text = document(both)
    print(text)
    if "--write" in sys.argv and not quick:
        put_into(ROOT / "docs" / "captions.md", "compare", text)
    return bars


def document(found: Mapping[str, Any]) -> str:
    """Tables and what they say, by family."""
    one = next(iter(found.values()))
    kept = [[e["name"], f"{e['kept']:,}"] for e in one["entries"]]
    head = HEAD.format(
        n=len(one["seeds"]), first=one["seeds"][0], device=one["environment"]["device"],
        primaries="; ".join(f"`{family}` by `{f['primary']}`" for family, f in found.items()),
    )  # fmt: skip
    parts = [
        head,
        table(["", "samples kept"], kept) + "\n",
        "Scores, mean (sd) over seeds; in brackets how many samples each training saw:\n",
        scores(found),
        "Differences, 95 % interval, above zero is better; Holm's correction within a family:\n",
        differences(found),
        "\n".join(f"- {sentence}" for sentence in sentences(found)) + "\n",
    ]
    return "\n".join(parts)


def write_recipes(made: Made) -> None:
    """That of capfilt with other entries."""
    said = yaml.safe_load(Path(made.recipe).read_text())
    for name, emit in EMITS.items():
        captions = said["captions"] | {"emit": emit}
        mine = {key: value for key, value in said.items() if key not in ("recipe", "description", "paper", "year")}
        recipe_file(made.folder / f"{name}.yaml", mine | {"captions": captions})


def compared(made: Made, family: str, seeds: int, seen: int | None) -> dict[str, Any]:
    """What `curate compare --json` finds under a family."""
    words = [
        "compare", *(f"{name}.yaml" for name in EMITS), "--family", family, "--scale", "tiny", "--seeds", str(seeds),
        "--first-seed", str(FIRST), "--controls", "no_filter", "--primary", PRIMARY[family],
        "--evaluate", str(made.held_out), *(("--samples-seen", str(seen)) if seen else ()), "--json", "--quiet",
        "--out", f"{family}.html",
    ]  # fmt: skip
    found: dict[str, Any] = json.loads(run_in(made.folder, *words))
    shutil.copy(made.folder / f"{family}.html", WORK / f"captions-{family}.html")
    return found


if __name__ == "__main__":
    WORK.mkdir(parents=True, exist_ok=True)
    finish(measure("--quick" in sys.argv), None)
