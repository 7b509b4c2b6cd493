"""CapFilt as a recipe: each web picture captioned, both texts judged, what matches emitted beside the clean pairs.

write_recipe(Path("out/capfilt.yaml"), CapFilt(...), Web.of("web.yaml"))        # for `curate run` too
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curate.errors import UserError
from curate.recipe import load_recipe
from curate.recipe_yaml import dump
from curate.run.capfilt.passing import passing, refuse_whole
from curate.run.sources.spec import SourceSpec
from filters.base import sql_number

RECIPE = "capfilt.yaml"
CLEAN, SYNTHETIC, ITM, SYNTHETIC_ITM = "clean_pairs_", "synthetic", "itm", "synthetic_itm"
OTHERS = "other_clean_pairs"
SHORTEST, LONGEST = 5, 20  # tokens of a caption: predict.py of BLIP's code
KEPT = ("shard_size", "ingest", "columns", "pack", "judge", "run")
_HEAD = """\
# CapFilt (Li et al. 2022, arXiv:2201.12086, section 3.3). Written by `curate capfilt`; go on with it, or change it, by
#     curate run {path}
"""


@dataclass(frozen=True)
class Web:
    """Pairs of the web: a recipe's sections, or a pack as one source."""

    name: str
    sections: dict[str, Any]

    @classmethod
    def of(cls, name: str) -> Web:
        """
        Raises:
            UserError: neither pack nor recipe; a recipe whose texts are chosen already, or as `refuse_whole`.
        """
        if "://" in name or (Path(name) / "manifest.json").is_file():
            return cls("pack", {"source": [pack_source(name, "web")]})
        recipe = load_recipe(name)
        if "captions" in recipe.raw:
            raise UserError(f"{name} has `captions:` of its own, and capfilt writes them: give a recipe without")
        refuse_whole(recipe)
        return cls(recipe.name, recipe.raw)

    @property
    def sources(self) -> list[dict[str, Any]]:
        said = self.sections.get("source") or []
        return [said] if isinstance(said, dict) else list(said)


@dataclass(frozen=True)
class CapFilt:
    """What the recipe says beside the web's.

    pool: where it works. clean: folder of the pack of clean pairs. captioner, filter: files of weights. digest: of the
    clean pack. p: of nucleus sampling. threshold: probability above which a text belongs to its picture. seed: of
    captions. gpu: stages ask for one a worker.
    """

    pool: str
    clean: str
    captioner: str
    filter: str
    digest: str
    p: float = 0.9
    threshold: float = 0.5
    seed: int = 0
    gpu: bool = False

    @property
    def clean_list(self) -> str:
        """The list of clean pairs: of this pack alone, since a pool may have those of others."""
        return f"{CLEAN}{self.digest[:8]}"

    @property
    def source(self) -> dict[str, Any]:
        """The clean pairs as an entry of `source:`."""
        return pack_source(self.clean, self.clean_list)

    def sections(self, web: Web) -> dict[str, Any]:
        """All of the recipe, in the order of its schema."""
        kept = {name: web.sections[name] for name in KEPT if name in web.sections}
        order = ("shard_size", "source", "ingest", "columns", "filters", "captions", "pack", "judge", "run")
        kept |= {"source": self._sources(web), "captions": self._captions(), "pack": kept.get("pack") or {}}
        kept["filters"] = self._filters(web)
        return {
            "recipe": f"{web.name[:50]}_capfilt",
            "description": "Web and generated texts that the filter calls a match, beside clean pairs",
            "paper": "BLIP (Li et al. 2022), CapFilt",
            "year": 2022,
            "seed": web.sections.get("seed", 0),  # order and draws of the pack stay the web's
            "pool": self.pool,
            **{name: kept[name] for name in order if name in kept},
        }

    def _sources(self, web: Web) -> list[dict[str, Any]]:
        for name in (SourceSpec.model_validate(source).list_name for source in web.sources):
            if name.startswith(CLEAN):
                raise UserError(f"a list of {web.name} is named {name!r}, as clean pairs are: give it another `name:`")
        # First, so that of a pair that stands in both lists the clean one counts.
        return [self.source, *web.sources]

    def _filters(self, web: Web) -> list[dict[str, Any]]:
        """The web's, of which clean pairs are asked none, below one that leaves out those of other runs in the pool."""
        clean = is_clean(self.clean_list)
        mine = {"id": OTHERS, "where": f"{clean} or not starts_with(list, '{CLEAN}')"}
        return [mine, *passing(web.sections.get("filters") or [], clean)]

    def _captions(self) -> dict[str, Any]:
        where = {"device": "cuda", "precision": "bf16"} if self.gpu else {}
        drawn = {"sampling": "nucleus", "p": self.p, "min_tokens": SHORTEST, "max_tokens": LONGEST, "seed": self.seed}
        judged = {"weights": self.filter, **where}
        clean, least = is_clean(self.clean_list), sql_number(self.threshold)
        return {
            "make": [
                {"caption": {"name": SYNTHETIC, "weights": self.captioner, **drawn, **where}},
                {"image_text_match": {"name": ITM, "also": [SYNTHETIC], **judged}},  # and SYNTHETIC_ITM
            ],
            "emit": [
                {"texts": [{"source": "web"}], "where": f"{clean} or {ITM} > {least}"},
                {"texts": [{"source": SYNTHETIC}], "where": f"not {clean} and {SYNTHETIC_ITM} > {least}"},
            ],
        }


def pack_source(folder: str, name: str) -> dict[str, Any]:
    """A pack as a list. Its uids are those of pictures, of which a pack has several texts: here a pair is a sample."""
    return {"path": f"{folder.rstrip('/')}/*.tar", "kind": "webdataset", "name": name, "uid": None, "keep": []}


def is_clean(name: str) -> str:
    """SQL: a sample is of the list of this name."""
    return f"starts_with(list, '{name}@')"


def write_recipe(path: Path, chosen: CapFilt, web: Web) -> None:
    """Write the recipe, or find that it is there; one that was written on a machine with a GPU serves without, too.

    Raises:
        UserError: another one is, of other options or changed by hand.
    """
    text, other = (
        _HEAD.format(path=path) + dump(replace(chosen, gpu=gpu).sections(web)) for gpu in (chosen.gpu, not chosen.gpu)
    )
    if path.exists():
        if path.read_text() not in (text, other):
            raise UserError(
                f"{path} says something else than these options: run it as it is with `curate run {path}`, or remove it"
            )
        return
    part = path.with_name(f"{path.name}.part-{os.getpid()}")
    part.write_text(text)
    part.replace(path)
