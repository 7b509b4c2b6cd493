"""Does CapFilt do on real pictures what it is for? A filter that tells swapped captions, a captioner that looks.

    python bench/captions_capfilt.py [--quick] [--write]     # --write: the table to docs/captions.md

Of bench/captions_work.py, three seeds. The filter: AUROC of ITM over web texts of which half are another picture's, and
Kendall's tau with people's scores (c for the experts' few grades, b for the crowd's shares, as CLIPScore has them). The
captioner: how many of the captions that it wrote for the web's pictures are distinct, and its CIDEr on held-out
pictures less that with other pictures' texts, with Student's 95 % interval over seeds. What the filter rejected of
either kind is told. All was fixed here before anything ran.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from captions_work import FIRST, SEEDS, WEB, Made, all_prepared, recipe_file, run_in
from common import ROOT, SHARED, WORK, Bar, at_least, bar, finish
from families_page import put_into

from stages.auroc import auroc
from training_smoke.markdown import table
from training_smoke.statistics import paired

AUROC, DISTINCT = 0.70, 0.5


@dataclass(frozen=True)
class Found:
    """Of one seed. tau: by kind of judges. rejected: shares of web's true and swapped texts, and of captions."""

    auroc: float
    tau: dict[str, float]
    distinct: float
    cider: float
    shuffled: float
    rejected: dict[str, float]


def measure(quick: bool) -> dict[str, Bar]:
    """quick: few pictures and steps of one seed: that it runs, not what it says."""
    if not SHARED.is_dir():
        print(f"no real data at {SHARED}: nothing is shown")
        return {"itm_auroc": bar(None, "data at ../shared/data", None)}
    found = []
    for made in all_prepared(range(FIRST, FIRST + (1 if quick else SEEDS)), quick):
        found.append(of(made))
        print(f"{made.folder.name}: {found[-1]}", flush=True)
    bars = {
        "itm_auroc_least": at_least(min(f.auroc for f in found), AUROC),
        "captions_distinct_least": at_least(min(f.distinct for f in found), DISTINCT),
    }
    if quick:
        return {name: b | {"ok": None} for name, b in bars.items()}
    looked = paired([f.cider for f in found], [f.shuffled for f in found])
    bars["cider_over_shuffled"] = bar(told(looked), "above 0", looked.low > 0)
    for judges in found[0].tau:
        agreed = paired([f.tau[judges] for f in found], [0.0] * len(found))
        bars[f"itm_tau_{judges}"] = bar(told(agreed), None, None)
    for kind in found[0].rejected:
        bars[f"rejected_{kind}"] = bar(round(float(np.mean([f.rejected[kind] for f in found])), 3), None, None)
    text = document(found)
    print(text)
    if "--write" in sys.argv and not quick:
        put_into(ROOT / "docs" / "captions.md", "capfilt", text)
    return bars


def document(found: Sequence[Found]) -> str:
    """A row for each number, a column for each seed."""
    names = {
        "AUROC of ITM, web texts of which half are swapped": [f.auroc for f in found],
        **{f"Kendall's tau of ITM with people, {j}": [f.tau[j] for f in found] for j in found[0].tau},
        "share of captions that are distinct": [f.distinct for f in found],
        "CIDEr of captions, held-out pictures": [f.cider for f in found],
        "CIDEr against other pictures' references": [f.shuffled for f in found],
        **{f"share rejected, {kind}": [f.rejected[kind] for f in found] for kind in found[0].rejected},
    }
    head = [f"seed {FIRST + i}" for i in range(len(found))]
    rows = [[name, *(f"{value:.3f}" for value in values)] for name, values in names.items()]
    return f"`python bench/captions_capfilt.py --write` writes this table.\n\n{table(['', *head], rows)}\n"


def of(made: Made) -> Found:
    rows = made.ask(
        "SELECT matches, itm, synthetic, synthetic_itm FROM samples WHERE not starts_with(list, 'clean_pairs_')"
    )
    judged = [r for r in rows if r["itm"] is not None]
    matches = np.array([r["matches"] in (True, "true", "True", 1) for r in judged])
    scores = np.array([r["itm"] for r in judged], float)
    written = [r["synthetic"] for r in rows if r["synthetic"] is not None]
    own = np.array([r["synthetic_itm"] for r in rows if r["synthetic_itm"] is not None], float)
    rejected = {
        "true": float((scores[matches] <= 0.5).mean()),
        "swapped": float((scores[~matches] <= 0.5).mean()),
        "captions": float((own <= 0.5).mean()),
    }
    cider, shuffled = held_out(made)
    distinct = len(set(written)) / max(1, len(written))
    return Found(auroc(scores, matches), agreement(made), distinct, cider, shuffled, rejected)


def held_out(made: Made) -> tuple[float, float]:
    """CIDEr of the captioner, and with other pictures' texts."""
    from training_smoke.evaluate.encoders import able
    from training_smoke.evaluate.run import evaluate
    from training_smoke.towers_file import load_model

    model: Any = able(load_model(made.folder / "capfilt" / "captioner.pt"))
    metrics = evaluate(model, str(made.held_out), name="flickr8k")["metrics"]
    return float(metrics["cider"]), float(metrics["cider_shuffled"])


def agreement(made: Made) -> dict[str, float]:
    """Kendall's tau of the filter with people, by kind of judges."""
    from scipy.stats import kendalltau

    said = WEB | {
        "pool": "judged",
        "source": WEB["source"] | {"path": "flickr8k-judged.parquet", "name": "judged"},
        "captions": {"make": [{"image_text_match": {"weights": "capfilt/filter.pt"}}]},
    }
    recipe = recipe_file(made.folder / "judged.yaml", said)
    run_in(made.folder, "run", "judged.yaml", "--executor", "inline", "--quiet", "--no-report")
    rows = made.ask("SELECT judges, score, itm FROM samples WHERE itm IS NOT NULL", recipe)
    found = {}
    for judges, variant in (("expert", "c"), ("crowd", "b")):
        mine = [r for r in rows if r["judges"] == judges]
        pairs = ([float(r[n]) for r in mine] for n in ("itm", "score"))
        found[judges] = float(kendalltau(*pairs, variant=variant)[0])
    return found


def told(c: Any) -> str:
    return f"{c.mean:+.3f} [{c.low:+.3f}, {c.high:+.3f}]"


if __name__ == "__main__":
    WORK.mkdir(parents=True, exist_ok=True)
    finish(measure("--quick" in sys.argv), None)
