"""The sections of a recipe: what may stand in its YAML, key by key."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from curate.run.fetch.spec import IngestSpec
from curate.run.pack.spec import PackSpec
from curate.run.sources.spec import SourceSpec
from filters.sql_guard import check_predicate

WEB = "web"  # the caption source that is the text itself
NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"


def _plain_name(value: str) -> str:
    if not re.fullmatch(NAME, value):
        raise ValueError("expected letters, digits, _ and -, at most 64: it names folders")
    return value


Name = Annotated[str, AfterValidator(_plain_name), Field(json_schema_extra={"pattern": NAME})]
Family = Literal[
    "clip", "siglip", "meru", "siglip_caption", "caption", "coca", "blip", "albef", "blip2", "blip2_generate", "llava",
    "simvlm",
]  # fmt: skip
Scale = Literal["feature", "tiny", "debug", "small", "medium", "large", "xlarge"]


def _predicate(value: str | None) -> str | None:
    if value is not None:
        check_predicate(value)
    return value


Condition = Annotated[str | None, AfterValidator(_predicate)]


class Section(BaseModel):
    """Frozen, and every key is known."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TextChoice(Section):
    """One source of texts and its share: "web", or a column of strings or of texts."""

    source: str = Field(default="web", description='"web", the text itself, or the name of a column')
    p: float = Field(default=1.0, gt=0, description="its share among the texts of this entry")
    each: bool = Field(
        default=False,
        description="p is the share of each text that the source has for a sample, not of all of them together",
    )
    where: Condition = Field(
        default=None, description="SQL over columns; a sample for which it is not true goes on without this text"
    )


class EmitSpec(Section):
    """One way in which a kept sample goes on: copies of it, each with one of the texts, by probability."""

    copies: int = Field(default=1, ge=1, le=10_000, description="how often each kept sample is written")
    texts: tuple[TextChoice, ...] = Field(
        default=(TextChoice(),), min_length=1, description="of which each copy gets one, by probability"
    )
    where: Condition = Field(
        default=None, description="SQL over columns; a sample for which it is not true does not go on this way"
    )


class Captions(Section):
    """Which texts a training set uses. Texts are columns: those of `make` are written beside the web text.

    CapFilt's union is two entries of `emit`; a mix is one entry with several texts. A sample is
    dropped, with the reason no_text, where no entry has a text for it.
    """

    make: tuple[Any, ...] = Field(default=(), description="captioner stages, as under columns:")
    emit: tuple[EmitSpec, ...] = Field(
        default=(EmitSpec(),),
        min_length=1,
        description="ways in which each kept sample goes on; all of them are written",
    )


class Judge(Section):
    """The model that says whether this recipe is better; read by `curate compare`, not by `curate run`."""

    family: Family = Field(default="clip", description="what is trained")
    scale: Scale = Field(default="tiny", description="how large a model, on how many samples")
    seeds: int = Field(default=3, ge=1, description="trainings of each recipe, to tell a gain from luck")
    model: str | None = Field(default=None, description="a configuration of open_clip; default: the scale's")
    pretrained: str | None = Field(default=None, description="weights to start from, by path or name")
    samples_seen: int | None = Field(
        default=None, ge=1, description="default: the scale's; equal for all recipes, cut to whole batches"
    )
    controls: tuple[Literal["no_filter", "random", "a_a"], ...] = Field(
        default=("no_filter", "random", "a_a"), description="recipes that are trained besides, to compare with"
    )
    evaluate: tuple[str, ...] = Field(
        default=(), description="evaluation sets: folders in CLIP_benchmark's layout, or one with many such folders"
    )
    primary: str = Field(
        default="mean", description="the metric that decides, as <set>/<metric>; mean: of the sets' main metrics"
    )
    parameters: dict[str, Any] = Field(
        default={}, description="of the training: keys of training_smoke.config.Config, as {optimiser: {lr: 1e-3}}"
    )


class RunSpec(Section):
    """How a run goes about it. Nothing here changes what is kept."""

    executor: Literal["auto", "inline", "ray"] = Field(
        default="auto", description="inline: in one process; auto: that for little work, else ray"
    )
    workers: int | None = Field(default=None, ge=1, description="at most; default: what the machines have room for")
    tries: int = Field(default=3, ge=1, description="for a shard, before it counts as failed")
    allow_failed: float = Field(default=0.0, ge=0, le=1, description="share of shards that may fail for good")


class RecipeFile(Section):
    """The whole recipe as it stands in YAML. Entries of `columns` and `filters` are read by curate.recipe_check.

    With `extends`, maps are merged key by key and everything else, lists too, replaces what the base says: a recipe
    with `filters:` has those and none of its base's. A section with an empty value goes back to its default.
    """

    recipe: Name = Field(description="its own name, also where it extends another")
    description: str = Field(default="", description="what it keeps, in one line")
    paper: str = Field(
        default="",
        description="what it follows, as NAME (AUTHORS YEAR), and after a comma what of it and where it departs; "
        "'none: why' where it follows none",
    )
    year: int | None = Field(default=None, ge=1950, le=2100, description="of the paper")
    extends: str | None = Field(
        default=None, description="a built-in recipe or a path; one level only; maps merge, lists replace"
    )
    seed: int = Field(default=0, description="of every draw")
    pool: str | None = Field(default=None, description="folder or URL; default pools/<recipe>")
    shard_size: int = Field(default=10_000, ge=1, le=1_000_000, description="samples in a shard of the pool")
    source: tuple[SourceSpec, ...] = Field(default=(), description="one list or several; none: what the pool has")
    ingest: IngestSpec = Field(default=IngestSpec(), description="how images are fetched, and how they are stored")
    columns: tuple[Any, ...] = Field(
        default=(), description="stages to compute besides those that filters need, or with other parameters"
    )
    filters: tuple[Any, ...] = Field(default=(), description="in order; each sees what the ones above it kept")
    captions: Captions = Field(default=Captions(), description="which texts a training set uses")
    pack: PackSpec | None = Field(default=None, description="how training shards are written")
    judge: Judge | None = Field(default=None, description="the model that compares recipes")
    run: RunSpec = Field(default=RunSpec(), description="how a run goes about it; nothing here changes what is kept")

    @field_validator("source", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, dict) else value
