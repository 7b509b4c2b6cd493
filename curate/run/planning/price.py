"""The price of each step: its rows, times the measured rates and the bytes a row of what it reads and writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from curate.run.account import FILES, called
from curate.run.pack.fill import OVERHEAD
from curate.run.planned import Planned
from curate.run.planning.amounts import Amount, Priced
from curate.run.planning.packs import RANK
from curate.run.planning.rates import Rate, Rates, family_of
from curate.run.planning.shares import Shares
from curate.run.planning.volumes import Volumes
from stages.base import Parameters

MEMBER = 60.0  # bytes a sample of what the first pass of a pack leaves for the second, besides its facts


@dataclass
class Known:
    """What prices are made of, besides bytes.

    listed, rows: rows of each shard, as listed and with an image. images: share of listed rows with one, None where
    nothing was ever fetched. received: bytes a listed row that come from outside, where that is known beforehand.
    ids: filter ids by verdict folder.
    """

    rates: Rates
    volumes: Volumes
    listed: Mapping[int, int]
    rows: Mapping[int, int]
    ids: Mapping[str, str]
    images: float | None = None
    received: float | None = None
    shares: Shares | None = None


@dataclass
class _Draft:
    """The price of a step while it is made: what is not measured, and what is only guessed."""

    unmeasured: list[str] = field(default_factory=list)
    guessed: bool = False
    at_most: bool = False

    def done(self, step: Planned, why: tuple[str, ...], todo: Amount, every: Amount) -> Priced:
        return Priced(step, why, self._told(todo), self._told(every), self.guessed, self.at_most)

    def _told(self, amount: Amount) -> Amount:
        return replace(amount, unmeasured=amount.unmeasured or tuple(self.unmeasured))


def times(rows: float, seconds: float | None, read: float | None, written: float | None) -> Amount:
    """So many rows at so much a row."""
    return Amount(1, seconds, read, written).scaled(rows)


class Prices:
    """Prices of the steps of one plan, to be asked for in order. `used`: each rate, by what it was used for."""

    def __init__(self, known: Known, steps: Sequence[Planned]) -> None:
        self.known, self.volumes, self.rates = known, known.volumes, known.rates
        self.used: dict[str, Rate] = {}
        self._last = {p.makes[0].root: p.phase for p in steps if p.phase}
        self.total = sum(known.rows.values())
        self.listed = sum(known.listed.values())

    def of(self, step: Planned, why: tuple[str, ...]) -> Priced:
        """The price of what is missing, and of all of it."""
        kinds = {
            "ingest": self._ingest,
            "columns": self._rowwise,
            "filter": self._rowwise,
            "sparse": self._sparse,
            "pick": self._pick,
            "pack": self._pack,
            "all shards": self._phase,
        }
        # How many samples shards will have that are still to come is not known before anything was fetched.
        draft = _Draft(at_most=bool(step.missing) and self.known.images is None)
        todo, every = kinds[step.kind](step, draft)
        return draft.done(step, why, todo, every)

    def _rate(self, name: str, rate: Rate | None, draft: _Draft) -> Rate | None:
        """Remember what a rate was used for, or that there is none."""
        if rate is None:
            draft.unmeasured.append(name)
        else:
            self.used[name] = rate
        return rate

    def _method(self, owner: Parameters, draft: _Draft) -> Rate | None:
        return self._rate(called(owner), self.rates.method(called(owner)), draft)

    def _of_parts(self, parts: Sequence[str], rows: Mapping[int, int]) -> int:
        return sum(rows.get(int(p), 0) for p in parts)

    # ---- shards one by one

    def _ingest(self, step: Planned, draft: _Draft) -> tuple[Amount, Amount]:
        rate = self._rate("ingest", self.rates.method("ingest") or self.rates.work("ingest"), draft)
        images = 1.0 if self.known.images is None else self.known.images
        tar = self.volumes.tar
        draft.guessed = not tar.measured
        written = images * (tar.bytes + self.volumes.facts.bytes) if tar.bytes else _written(rate)
        read = self.known.received if rate is None or rate.read is None else rate.read
        todo, every = (
            times(rows, _seconds(rate), read, written)
            for rows in (self._of_parts(step.makes[0].todo, self.known.listed), self.listed)
        )
        return todo, every

    def _rowwise(self, step: Planned, draft: _Draft) -> tuple[Amount, Amount]:
        """Stages or filters that share a pass: seconds of each, and once those of reading and writing."""
        family = family_of(step.name)
        methods = [called(m.owner) if m.owner is not None else "" for m in step.makes]
        rates = [self.rates.method(name) for name in methods]
        whole = self.rates.work(family) if not any(rates) else None  # runs of an older curate told no methods
        files = self.rates.method(f"{family} {FILES}")
        self.used |= {name: r for name, r in zip(methods, rates, strict=True) if r is not None}
        self.used |= {family: whole} if whole else {}
        draft.guessed = not all(self.volumes.of(m).measured for m in step.makes)
        read = self.volumes.read(step.makes)

        def amount(of_each: Sequence[int], rows: int, parts: int) -> Amount:
            seconds = [r.seconds * n for r, n in zip(rates, of_each, strict=True) if r is not None]
            seconds += [rate.seconds * rows for rate in (files if seconds else None, whole) if rate is not None]
            lack = [m for m, r, n in zip(methods, rates, of_each, strict=True) if n and r is None and whole is None]
            written = [self.volumes.written(m, n, parts) for m, n in zip(step.makes, of_each, strict=True)]
            return Amount(rows, sum(seconds) if seconds else None, read * rows, sum(written), tuple(lack))

        each = [self._of_parts(m.todo, self.known.rows) for m in step.makes]
        rows = self._of_parts(tuple({p for m in step.makes for p in m.todo}), self.known.rows)
        every = amount([self.total] * len(step.makes), self.total, step.total or 0)
        return amount(each, rows, step.missing or 0), every

    def _sparse(self, step: Planned, draft: _Draft) -> tuple[Amount, Amount]:
        """Of the survivors of the filters above, as far as an earlier pick tells how many these are."""
        made = step.makes[0]
        assert made.owner is not None
        rate = self._method(made.owner, draft)
        above = [self.known.ids[f] for f in made.about["above"]]
        share = self.known.shares.after(above) if self.known.shares else 1.0
        draft.at_most = bool(step.missing)  # of those, earlier parts may have some
        measured = _written(rate)
        written = self.volumes.of(made).bytes if measured is None else measured
        draft.guessed = measured is None
        todo, every = (
            times(round(share * rows), _seconds(rate), self.volumes.read([made]), written)
            for rows in (self._of_parts(made.todo, self.known.rows), self.total)
        )
        return todo, every

    def _pick(self, step: Planned, draft: _Draft) -> tuple[Amount, Amount]:
        made = step.makes[0]
        rate = self._rate("pick", self.rates.method("pick") or self.rates.work("pick"), draft)
        draft.guessed = not self.volumes.of(made).measured
        sources = {c["folder"] for n in ("sources", "conditions") for c in made.about[n].values()}
        homes = {s["folder"] for s in made.about["steps"]} | sources - {None}
        read = (1 + (None in sources)) * self.volumes.facts.bytes + self.volumes.folders(homes)
        found = []
        for rows, parts in (
            (self._of_parts(made.todo, self.known.rows), len(made.todo)),
            (self.total, step.total or 0),
        ):
            one = times(rows, _seconds(rate), read, None)
            found.append(Amount(one.rows, one.seconds, one.read, self.volumes.written(made, rows, parts)))
        return found[0], found[1]

    # ---- all shards at once

    def _phase(self, step: Planned, draft: _Draft) -> tuple[Amount, Amount]:
        """A phase, or all phases of what is there; rates are for each sample of the pool."""
        made = step.makes[0]
        assert made.owner is not None
        name, last = called(made.owner), step.phases[-1] if step.phases else self._last[made.root]
        rates = [self.rates.phase(name, p, last) for p in step.phases or (step.phase,)]
        found = [r for r in rates if r is not None]  # a phase without parts was never run, and costs nothing
        if found:
            self.used[name] = found[0]
        elif self.rates.phase(name, last, last) is None:
            draft.unmeasured.append(name)
        draft.guessed = not found
        final = step.phase == last or bool(step.phases)
        size = self.volumes.of(made).bytes if final else None
        seconds = sum(r.seconds for r in found) if found else None
        read, written = (_sum([r.read for r in found]), _sum([r.written for r in found])) if found else (None, size)
        left = 1.0 if step.total is None or step.missing is None else step.missing / max(step.total, 1)
        return times(self.total * left, seconds, read, written), times(self.total, seconds, read, written)

    def _pack(self, step: Planned, draft: _Draft) -> tuple[Amount, Amount]:
        first = step.name == RANK
        name = "pack rank" if first else "pack fill"
        rate = self._rate(name, self.rates.method(name), draft)
        facts, image, shares = self.volumes.facts.bytes, self.volumes.tar.bytes, self.known.shares
        written = _written(rate)
        draft.guessed = written is None
        draft.at_most |= bool(step.missing) and shares is None and not first
        if written is None:
            written = MEMBER + facts if first else image + OVERHEAD
        every = self.total * (1.0 if first or shares is None else shares.copies)
        left = (step.missing or 0) / max(step.total or 0, 1)
        todo, whole = (
            times(round(rows), _seconds(rate), facts if first else image, written) for rows in (every * left, every)
        )
        return todo, whole


def _seconds(rate: Rate | None) -> float | None:
    return None if rate is None else rate.seconds


def _written(rate: Rate | None) -> float | None:
    return None if rate is None else rate.written


def _sum(values: Sequence[float | None]) -> float | None:
    """None where one is not known."""
    known = [v for v in values if v is not None]
    return sum(known) if len(known) == len(values) else None
