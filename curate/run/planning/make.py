"""Make a plan: look at the pool and the lists, walk the recipe without doing anything, price what would be done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from curate.pool.layout import PIXELS, POOL
from curate.pool.lists import RETRY, Claim, claims
from curate.pool.pool import FORMAT, Pool
from curate.pool.storage import Storage
from curate.run.job import Job
from curate.run.planned import UNKNOWN
from curate.run.planning.amounts import Priced
from curate.run.planning.lists import Unread, rows_of_shards, unread
from curate.run.planning.machine import machine
from curate.run.planning.packs import plan_pack
from curate.run.planning.plan import Plan
from curate.run.planning.price import Known, Prices
from curate.run.planning.rates import Rates
from curate.run.planning.reasons import Reasons
from curate.run.planning.sample import Measured, measure
from curate.run.planning.shares import shares
from curate.run.planning.sizes import Sizes, stored_image
from curate.run.planning.volumes import Volumes
from curate.run.walk import Walk
from stages.base import shard_name

if TYPE_CHECKING:
    from curate.recipe import Recipe


@dataclass(frozen=True)
class Scene:
    """What there is before a walk.

    claims: of the pool, then of lists ahead. listed: rows of every shard. there: rows with an image of the shards that
    are fetched. again: shards of retries, whose rows are in shards before.
    """

    pool: Pool
    exists: bool
    read: Sequence[Claim]
    ahead: Sequence[Unread]
    listed: Mapping[int, int]
    there: Mapping[int, int]
    again: frozenset[int] = frozenset()

    @property
    def rows(self) -> int:
        """Rows of all lists, each once."""
        return sum(n for s, n in self.listed.items() if s not in self.again)

    @property
    def claims(self) -> list[Claim]:
        return [*self.read, *(u.claim for u in self.ahead)]

    @property
    def images(self) -> float | None:
        """Share of listed rows with an image, by the shards that are fetched; a retry adds images to the same rows."""
        listed = sum(self.listed[s] for s in self.there if s not in self.again)
        return sum(self.there.values()) / listed if listed else None

    @property
    def received(self) -> float | None:
        """Bytes a row of lists that bring their images."""
        rows = sum(u.claim.rows for u in self.ahead if u.has_images)
        return sum(u.bytes for u in self.ahead) / rows if rows else None

    def coming(self, images: float | None) -> dict[int, int]:
        """About how many rows the shards will have that are not there; all that are listed, where no share is known.

        Of what is tried again fewer come, as other retries have shown.
        """
        share = 1.0 if images is None else images
        tried = sum(self.listed[s] for s in self.again & self.there.keys())
        later = sum(self.there[s] for s in self.again & self.there.keys()) / tried if tried else share
        return {
            s: round(n * (later if s in self.again else share)) for s, n in self.listed.items() if s not in self.there
        }


def look(recipe: Recipe) -> Scene:
    """The pool, or an empty one that is not written where there is none; and the lists.

    Raises:
        UserError: nothing lies where a source says, or the pool has other settings than the recipe.
    """
    storage = Storage.at(recipe.pool)
    exists = storage.exists(POOL)
    settings = {"format": FORMAT, "shard_size": recipe.shard_size, "pixels": recipe.ingest.pixels()}
    pool = Pool.open(recipe.pool) if exists else Pool(storage, settings)
    pool.refuse_other_settings(recipe.ingest.pixels(), recipe.shard_size)
    read = claims(storage)
    ahead = unread(recipe, read)
    listed = rows_of_shards([*read, *(u.claim for u in ahead)])
    shape, _ = pool.shape(sorted(pool.index(PIXELS).finished(listed)))
    again = frozenset(s for c in read if c.kind == RETRY for s in c.numbers)
    return Scene(pool, exists, read, ahead, listed, dict(zip(shape.shards, shape.rows, strict=True)), again)


def make_plan(recipe: Recipe, *, executor: str | None = None, workers: int | None = None, sample: int = 0) -> Plan:
    """What a run would do. The pool is only read.

    Args:
        sample: measure on so many shards; see `curate.run.planning.sample`.

    Raises:
        UserError: see `look`; or a shard of the sample fails.
    """
    name, limit = executor or recipe.run.executor, workers or recipe.run.workers
    machine(name, limit, 0)  # refuses a name before anything is looked at
    scene = look(recipe)
    rates = Rates.of_pool(scene.pool.storage, "" if name == "auto" else name)
    images = scene.images or rates.images_a_row()
    walk, pick = Job(recipe).foresee(scene.pool, scene.claims, scene.coming(images))
    measured = Measured()
    if sample:
        measured = measure(recipe, scene.pool, walk, list(scene.there), scene.ahead, rates, sample)
        rates, images = measured.before(rates), images or measured.images
    prices, steps, pack = _priced(recipe, scene, walk, pick, rates, images, measured)
    settled = walk.prints.generation != UNKNOWN
    return Plan(
        recipe=recipe,
        exists=scene.exists,
        claimed=sum(c.shards for c in scene.read),
        shards=len(scene.there),
        samples=sum(scene.there.values()),
        listed=scene.rows,
        ahead=tuple(scene.ahead),
        steps=steps,
        rates=prices.used,
        machine=machine(name, limit, sum(p.todo.seconds or 0 for p in steps if p.open)),
        pick=pick if settled else None,
        pack=pack if settled else None,
        shadowed=tuple(recipe.shadowed({n for c in scene.claims for n in c.columns})),
        sampled=measured.words,
    )


def _priced(
    recipe: Recipe,
    scene: Scene,
    walk: Walk,
    pick: str,
    rates: Rates,
    images: float | None,
    measured: Measured,
) -> tuple[Prices, tuple[Priced, ...], str | None]:
    """(prices, the steps with theirs, the pack's folder)."""
    coming = scene.coming(images)
    rows = {**scene.there, **coming}
    left = shares(scene.pool, walk, pick) or measured.shares
    known = Known(
        rates=rates,
        volumes=Volumes(
            Sizes(scene.pool, scene.there, walk.touched), measured.bytes, stored_image(recipe.ingest, scene.received)
        ),
        listed=scene.listed,
        rows=rows,
        ids={folder: id for id, folder in walk.verdicts},
        images=images,
        received=scene.received,
        shares=left,
    )
    copies = round(sum(rows.values()) * (left.copies if left else 1.0))
    pack, packing, why = plan_pack(recipe, scene.pool, walk, pick, copies)
    reasons = Reasons(scene.pool, walk.notes, frozenset(map(shard_name, coming)), empty=not scene.there)
    prices = Prices(known, walk.planned)
    steps = [prices.of(step, reasons.of(step)) for step in walk.planned]
    steps += [prices.of(step, (why if step.missing else "",)) for step in packing]
    return prices, tuple(steps), pack
