"""Take a bounded sample of an input of any kind: some 2,000 rows, spread over its files, and no pictures.

    sample = take(open_source(SourceSpec(path="laion/*.parquet")))
    sample.columns["TEXT"], sample.values["TEXT"], str(sample.rows)     # "string", [...], "about 1,200,000"

Counts are exact where a format says them (footers of parquet) or where all was read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import fsspec

from curate.errors import UserError
from curate.init.sample import BYTES, FILES, ROWS, Count, Sample, Thinned, spread
from curate.init.tables import take_tables
from curate.pool.lists import Findings
from curate.run.sources.files import is_gzip, is_local, naming, open_bytes
from curate.run.sources.folder import folder_sample, images_of
from curate.run.sources.kinds import NULL, kind_of_json
from curate.run.sources.raw import Reading, columns_of
from curate.run.sources.sidecars import Sample as Member
from curate.run.sources.source import ListSource
from curate.run.sources.tables import table_format
from curate.run.sources.tars import tar_samples

WALKED = 20_000, 64  # samples of a local and of a remote tar that are passed
LISTED = 200_000  # pictures of a folder that are listed
REMOTE = 16  # remote files that are asked for their size


def take(found: ListSource) -> Sample:
    """Rows of a source.

    Raises:
        UserError: a file cannot be read, or there is nothing in any.
    """
    if found.kind == "folder":
        sample = _folder(found)
    elif found.kind == "webdataset":
        sample = _tars(found)
    else:
        sample = take_tables(found.files, _bytes_of(found.files))
    if not sample.rows.n:
        why = f" ({'; '.join(sample.complaints[:3])})" if sample.complaints else ""
        raise UserError(f"{', '.join(found.spec.paths)}: {_EMPTY[found.kind]}{why}{_remedy(found)}")
    return sample


_EMPTY = {
    "folder": "no picture lies in this folder or below it",
    "webdataset": "no sample is in it",
    "urls": "is empty: there is no row in it",
    "parquet": "is empty: there is no row in it",
}


def _remedy(found: ListSource) -> str:
    """A folder of lists or of tars is none of pictures."""
    if found.kind != "folder" or not is_local(found.files[0]):
        return ""
    names = [n for n in sorted(os.listdir(found.files[0])) if table_format(n) or n.lower().endswith(".tar")]
    if not names:
        return ""
    ending = names[0][names[0].index(".") :] if names[0].count(".") == 1 else "." + names[0].rpartition(".")[2]
    return f"; it has {ending} files: give them as '{found.files[0]}/*{ending}'"


def _bytes_of(files: Sequence[str]) -> Count:
    """Bytes of all files; of many remote ones an estimate."""
    local = [f for f in files if is_local(f)]
    remote = [f for f in files if not is_local(f)]
    asked = spread(remote, REMOTE) if remote else []
    total = of_remote = 0
    for f in local:
        with naming(f):
            total += os.stat(f).st_size
    for f in asked:
        with naming(f):
            fs, inner = fsspec.core.url_to_fs(f)
            of_remote += int(fs.info(inner)["size"] or 0)
    share = len(remote) / len(asked) if asked else 1
    return Count(total + int(of_remote * share), share == 1)


# ---------------------------------------------------------------- tars and folders


def _tars(found: ListSource) -> Sample:
    files = spread(found.files, FILES)
    members: list[Member] = []
    readings: list[Reading] = []
    samples = passed = 0
    all_whole = len(files) == len(found.files)
    for file in files:
        readings.append(Reading(found.spec, False, Findings(), {}))
        kept, end = _one_tar(file, -(-ROWS // len(files)), readings[-1])
        all_whole &= end is None
        samples += kept.seen
        passed += end if end is not None else _bytes_of([file]).n
        members += kept.items
    size = _bytes_of(found.files)
    rows = Count(samples if all_whole else int(samples * size.n / max(passed, 1)), all_whole)
    return _of_members(members, rows, size, len(files), readings)


def _one_tar(file: str, want: int, reading: Reading) -> tuple[Thinned[Member], int | None]:
    """Its samples, and the byte up to which they go where that is not its end."""
    limit = WALKED[not is_local(file)]
    kept: Thinned[Member] = Thinned(want)
    last = [0]

    def passing(samples: Iterator[Member]) -> Iterator[Member]:
        held = 0
        for sample in samples:
            last[0] = (sample.place[1] or 0) + (sample.place[2] or 0)
            held += sample.size
            yield sample
            if held > BYTES:
                return

    with naming(file), open_bytes(file) as f:
        if is_gzip(f):
            raise UserError(f"{file}: is compressed; pictures are read from their places in a tar: unzip it first")
        samples = tar_samples(file, f, reading)
        kept.add(passing(islice(samples, limit)))
        ended = next(samples, None) is None
    return kept, None if ended else last[0]


def _folder(found: ListSource) -> Sample:
    pictures: Thinned[tuple[str, list[str]]] = Thinned(ROWS)
    for folder in found.files:
        pictures.add(islice(images_of(folder), LISTED - pictures.seen))
    reading = Reading(found.spec, False, Findings(), {})
    members: list[Member] = []
    held = 0
    for number, (image, sidecars) in enumerate(spread(pictures.items, ROWS), 1):
        member = folder_sample(image, sidecars, number, reading) if held <= BYTES else None
        if member:
            members.append(member)
            held += member.size
    mean = sum(m.place[2] or 0 for m in members) / max(len(members), 1)
    exact = pictures.seen < LISTED
    size = Count(int(mean * pictures.seen), exact and len(members) == pictures.seen)
    return _of_members(members, Count(pictures.seen, exact), size, len(found.files), [reading])


def _of_members(members: list[Member], rows: Count, size: Count, looked: int, readings: list[Reading]) -> Sample:
    members = spread(members, ROWS)
    values = columns_of([m.extras for m in members])
    columns = {n: str(kind_of_json(v, NULL)) for n, v in values.items()}
    return Sample(looked, rows, size, columns, values, members, _complaints(readings))


def _complaints(readings: Iterable[Reading]) -> list[str]:
    """What readers refused or found damaged."""
    refused: dict[str, int] = {}
    for r in readings:
        for reason, n in r.findings.reasons.items():
            refused[reason] = refused.get(reason, 0) + n
    damaged = [f"damaged: {d['file']}: {d['reason']}" for r in readings for d in r.findings.damaged]
    return [f"{n:,} refused: {reason}" for reason, n in sorted(refused.items())] + damaged
