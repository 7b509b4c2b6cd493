"""Try again what may have failed for a while only: a later pass, in new shards.

    outcomes = transient("timeout,dns")                       # or "transient": all of them
    found = Retry(pool, spec, outcomes).claim(time.time())    # found.rows, found.waiting, found.spent

A retry is a claim of kind "retry" on the next shard numbers, one for each list and number of the attempt. Its rows are
those of the list, and its shards are written before the claim: whoever is killed in between leaves a folder that no
claim names (`curate gc`), and whoever loses the number to another driver looks again, as that one may have taken the
same rows. Nothing is tried that has an image, whose last outcome is not transient, or that waits in a shard.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from curate.errors import UserError
from curate.pool.columns import uid_digest, write_parquet
from curate.pool.facts import OUTCOMES, TRANSIENT, UID
from curate.pool.layout import short_hash
from curate.pool.lists import RETRY, Claim, claims, commit_claim, listed, next_number
from curate.pool.pool import Pool
from curate.run.fetch.spec import IngestSpec
from curate.run.states import duration
from curate.run.tries import Tries, claim_of

ALL = "transient"
REFUSALS = frozenset(o for o in OUTCOMES if o.startswith("refused")) | {"blocked_address"}


@dataclass(frozen=True)
class Found:
    """What a look at the logs found. rows: outcome -> URLs that are tried again now, in the shards of `claims`.

    waiting: URLs whose time has not come, the first of them at `first`, the last at `last` (seconds since 1970).
    spent: URLs that had all their attempts.
    """

    claims: tuple[Claim, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    waiting: int = 0
    first: float = 0.0
    last: float = 0.0
    spent: int = 0


def transient(words: str) -> tuple[str, ...]:
    """The outcomes that `--retry` names: "transient" is all that another attempt may change.

    Raises:
        UserError: no such outcome, a refusal, or one that stays what it is.
    """
    found: list[str] = []
    for word in (w.strip() for w in words.split(",")):
        if word == ALL:
            found += sorted(TRANSIENT)
        elif word in TRANSIENT:
            found.append(word)
        elif word in REFUSALS:
            raise UserError(
                f"--retry {word}: a refusal is never tried again. It is a decision, of the site's owner or of your own "
                f"lists, and stands until the list or the recipe changes. {_possible()}"
            )
        elif word in OUTCOMES:
            raise UserError(f"--retry {word}: another attempt would not change it. {_possible()}")
        else:
            raise UserError(f"--retry {word}: there is no such outcome. {_possible()}")
    return tuple(dict.fromkeys(found))


def _possible() -> str:
    return f"It is {ALL}, or some of {', '.join(sorted(TRANSIENT))}"


class Retry:
    """What of a pool can be tried again. Memory is bounded, whatever the length of the logs."""

    def __init__(self, pool: Pool, spec: IngestSpec, outcomes: Sequence[str]) -> None:
        self.pool, self.spec, self.outcomes = pool, spec, tuple(outcomes)

    def claim(self, now: float) -> Found:
        """Give shard numbers to what is due at `now` (seconds since 1970).

        Raises:
            UserError: a file of the pool is damaged.
        """
        made: list[Claim] = []
        rows: Counter[str] = Counter()
        while True:
            known = claims(self.pool.storage)
            with Tries(self.pool, self.spec, self.outcomes, known) as tries:
                if self._claim_all(tries, now, known, made, rows):
                    return Found(tuple(made), dict(rows.most_common()), *tries.not_now(now))

    def _claim_all(self, tries: Tries, now: float, known: list[Claim], made: list[Claim], rows: Counter[str]) -> bool:
        """False where another driver took a number that was meant for these rows: it may have taken the rows, too."""
        for origin, attempt in tries.groups(now):
            claim = self._write(tries, now, known, origin, attempt)
            if not commit_claim(self.pool.storage, claim):
                self._let_go(claim)
                return False
            rows.update(tries.outcomes_of(now, origin, attempt))
            made.append(claim)
            known = [*known, claim]
        return True

    def _write(self, tries: Tries, now: float, known: list[Claim], origin: int, attempt: int) -> Claim:
        of, size = known[origin], int(self.pool.settings["shard_size"])
        digest, rows = xxhash.xxh3_128(), 0
        for uid, _, _ in tries.due(now, origin, attempt):
            digest.update(b"".join(uid))
            rows += len(uid)
        first = next_number(known)
        claim = Claim(
            list=f"retry-{first}", hash=short_hash([of.origin, attempt, digest.hexdigest()]), kind=RETRY, first=first,
            shards=-(-rows // size), rows=rows, shard_size=size, columns=of.columns,
            source={"of": of.origin, "attempt": attempt + 1, "outcomes": list(self.outcomes)},
        )  # fmt: skip
        tables = self._rows(known, tries.due(now, origin, attempt))
        for shard, table in zip(claim.numbers, _cut(tables, size), strict=True):
            footer = {"rows": table.num_rows, "uid_digest": uid_digest(table.column("uid"))}
            self.pool.storage.commit(claim.file(shard), write_parquet(table, footer))
        return claim

    def _rows(
        self, known: Sequence[Claim], due: Iterator[tuple[list[bytes], list[int], list[int]]]
    ) -> Iterator[pa.Table]:
        """Rows of the list, in the order of shards and rows."""
        for uids, shards, _ in due:
            wanted, numbers = pa.array(uids, UID), np.array(shards)
            for shard in np.unique(numbers).tolist():
                table = listed(self.pool.storage, claim_of(known, shard), shard)
                mine = wanted.filter(pa.array(numbers == shard))
                yield table.filter(pc.is_in(table.column("uid"), mine))

    def _let_go(self, claim: Claim) -> None:
        """Remove the shards of a lost number, unless the winner's are the same."""
        if claim.folder not in {c.folder for c in claims(self.pool.storage)}:
            for entry in self.pool.storage.list(claim.folder):
                self.pool.storage.delete(f"{claim.folder}/{entry.name}")


def _cut(tables: Iterator[pa.Table], size: int) -> Iterator[pa.Table]:
    """The same rows in tables of `size`, the last one shorter."""
    waiting: list[pa.Table] = []
    held = 0
    for table in tables:
        waiting.append(table)
        held += table.num_rows
        while held >= size:
            whole = pa.concat_tables(waiting)
            yield whole.slice(0, size)
            waiting, held = [whole.slice(size)], held - size
    if held:
        yield pa.concat_tables(waiting)


def say(found: Found, spec: IngestSpec, now: float) -> list[str]:
    """What a retry does, and what it does not do yet or any more, in words."""
    lines = []
    if found.claims:
        shards = sum(c.shards for c in found.claims)
        kinds = ", ".join(f"{outcome} {n:,}" for outcome, n in found.rows.items())
        lines.append(
            f"retry: {_urls(sum(found.rows.values()))} again, in {shards:,} shard{'s' * (shards != 1)} ({kinds})"
        )
    if found.waiting:
        first, last = (f"in {duration(max(0.0, at - now))}" for at in (found.first, found.last))
        when = first if first == last else f"the first {first}, the last {last}"
        lines.append(f"retry: {_urls(found.waiting)} not due yet: {when}")
    if found.spent:
        lines.append(
            f"retry: {_urls(found.spent)} failed {spec.attempts} times and {'is' if found.spent == 1 else 'are'} left "
            "alone; `attempts:` under `ingest:` allows more"
        )
    return lines or ["retry: nothing failed in a way that may have passed"]


def _urls(n: int) -> str:
    return f"{n:,} URL{'s' * (n != 1)}"


def say_again(outcomes: Mapping[str, int], spec: IngestSpec, command: str) -> list[str]:
    """At the end of a run: how much of what it fetched can be tried again, and how."""
    kinds = [
        (outcome, n) for outcome, n in sorted(outcomes.items(), key=lambda kv: (-kv[1], kv[0])) if outcome in TRANSIENT
    ]
    if not kinds or spec.attempts < 2:
        return []
    again = command if "--retry" in command else f"{command} --retry {ALL}"
    if not command.startswith("curate run"):
        again = f"curate run RECIPE --retry {ALL}"
    words = ", ".join(f"{outcome} {n:,}" for outcome, n in kinds)
    return [
        f"{_urls(sum(n for _, n in kinds))} may be had later ({words}); from {duration(spec.retry_backoff_s)} on, "
        f"while attempts are left: {again}"
    ]
