"""`ingest: {backend: img2dataset}`: an installed img2dataset fetches a shard, and its output is taken in.

    fetch_shard(storage, claim, table, 17, spec)

It runs in an environment of its own (`img2dataset_python`), as its pins fight with ours, in a folder of its own, and
ends by the shard's deadline. It knows fewer manners than we do, and does not check the addresses that it connects to
(it follows a redirect into a private network): use it where the network around it does. What it cannot do is refused
by name, never left out in silence: also by `manners`, which packs carry.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.errors import UserError
from curate.interchange.img2dataset import Output, places_of
from curate.interchange.said import outcome_of, words
from curate.interchange.take import commit_log
from curate.pool.facts import PLACE
from curate.pool.layout import marker
from curate.pool.lists import Claim
from curate.pool.storage import Storage
from curate.run.fetch.gate.lists import Refusals
from curate.run.fetch.spec import IngestSpec
from curate.run.ingest import ingest_shard

RESIZE = {"none": "no", "short": "keep_ratio", "long": "keep_ratio_largest", "border": "border", "crop": "center_crop"}
LACKS = {
    "robots": "it reads no robots.txt",
    "tdm": "it knows no TDM reservation",
    "host_limits": "it has no limits for a host",
}
"""Manners that it does not have: whoever uses it must have turned them off by name."""
UNMAPPED = {
    "max_bytes": "it reads images of any size",
    "max_redirects": "it follows ten",
    "connect_timeout_s": "it has timeout_s alone",
    "idle_timeout_s": "it has timeout_s alone",
    "user_agent": "it names itself a browser",
    "refuse_domains": "it has no lists of refusals",
    "refuse_urls": "it has no lists of refusals",
}
"""What it does instead of keeping a setting: whoever uses it leaves these alone, and packs say so."""
NAMED_TAGS = "it heeds X-Robots-Tag lines for all agents, none for one by name"
BROWSER = "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:72.0) Gecko/20100101 Firefox/72.0"
OWN_PAGE = "https://github.com/rom1504/img2dataset"
ROW = "curate_row"  # a further column, by which its rows are ours
TAIL = 2000  # characters of what it said last


def check(spec: IngestSpec) -> None:
    """Refuse settings that img2dataset cannot keep.

    Raises:
        UserError: naming each, with what to do.
    """
    wrong = [
        f"{why}: add {name} to `ignore:` if you mean to go without"
        for name, why in LACKS.items()
        if name not in spec.ignore
    ]
    for name, instead in UNMAPPED.items():
        if getattr(spec, name) != IngestSpec.model_fields[name].default:
            wrong.append(f"{name} cannot be set for it, as {instead}: leave it out")
    if spec.contact is not None and spec.contact != spec.contact.strip().lower():
        wrong.append(f"contact: it sends it as {spec.contact.strip().lower()}: write it so, if that reaches you")
    if spec.decode == "scaled":
        wrong.append("decode: scaled is not among its ways: leave it out")
    if spec.resize != "none" and spec.format is None:
        wrong.append("format: null keeps each picture's format, which it cannot when it resizes: name one")
    if wrong:
        raise UserError(
            "`backend: img2dataset` under `ingest:` does not do all that the recipe says:\n  " + "\n  ".join(wrong)
        )


def manners(spec: IngestSpec) -> dict[str, Any]:
    """As `IngestSpec.manners`, of what is really done: the header sent, and what is not kept."""
    lacks = [f"{name}: {instead}" for name, instead in UNMAPPED.items() if not name.startswith("refuse_")]
    if "x_robots_tag" not in spec.ignore:
        lacks.append(f"x_robots_tag: {NAMED_TAGS}")
    return spec.manners() | {"agent": agent(spec), "not_kept": lacks}


def agent(spec: IngestSpec) -> str:
    """The User-Agent header that it sends (`downloader.py`, 1.47); no other can be had."""
    return f"{BROWSER} (compatible; {_token(spec)}; +{OWN_PAGE})"


def _token(spec: IngestSpec) -> str:
    """What of the header is ours: site owners must be able to reach whoever fetches their images."""
    return f"curate; +{spec.contact}" if spec.contact else "curate"


def arguments(spec: IngestSpec, source: Path, out: Path, rows: int, *, verify: bool) -> list[str]:
    """Its command line for one shard.

    Args:
        source: parquet with url, caption, the row's number and, with `verify`, sha256.
    """
    given: dict[str, Any] = {
        "url_list": source, "input_format": "parquet", "url_col": "url", "caption_col": "caption",
        "save_additional_columns": json.dumps([ROW]), "output_folder": out, "output_format": "webdataset",
        "number_sample_per_shard": rows, "processes_count": 1, "thread_count": min(spec.concurrency, 256),
        "timeout": max(1, round(spec.timeout_s)), "retries": 0, "enable_wandb": False, "extract_exif": False,
        "compute_hash": "sha256", "min_image_size": spec.min_side, "max_image_area": spec.max_pixels,
        "user_agent_token": json.dumps(_token(spec)),  # quoted: fire reads numbers and comments in what is not
        "disallowed_header_directives": json.dumps([] if "x_robots_tag" in spec.ignore else list(spec.directives)),
    }  # fmt: skip
    if verify:
        given["verify_hash"] = json.dumps(["sha256", "sha256"])
    if spec.resize == "none" and spec.format is None:
        given["disable_all_reencoding"] = True
    else:
        quality = 6 if spec.format == "png" else spec.quality  # of png it is the effort
        given |= {
            "resize_mode": RESIZE[spec.resize], "image_size": spec.side, "resize_only_if_bigger": spec.only_if_bigger,
            "encode_format": spec.format, "encode_quality": quality, "skip_reencode": True,
        }  # fmt: skip
    return [f"--{name}={value}" for name, value in given.items()]


def fetch_shard(storage: Storage, claim: Claim, table: pa.Table, shard: int, spec: IngestSpec) -> dict[str, Any]:
    """Make one shard of a list; returns what `ingest_shard` does.

    Its first log is what img2dataset said of every URL; the next, what became of its images here.

    Raises:
        UserError: settings that it cannot keep, no contact, or it does not start.
    """
    spec.check_contact()
    check(spec)
    if storage.exists(marker(shard)):
        return ingest_shard(storage, table.slice(0, 0), shard, claim.origin, spec, claim.bytes_column)
    folder = storage.scratch()
    folder.mkdir(parents=True)
    try:
        places = table.column("place").to_pylist()
        said: list[str | None] = [None if p else "unreadable: neither a url nor a place" for p in places]
        urls = table.column("url").to_pylist()
        remote = [row for row, url in enumerate(urls) if places[row] is None and url]
        for row in remote:
            said[row] = "gave_up: img2dataset left it out"
        if remote:
            _fetch(table, remote, folder, spec, places, said)
        attempt = claim.attempt
        while not commit_log(storage, shard, attempt, table, [outcome_of(w) for w in said], said):
            attempt += 1  # a worker that died has written one, and this is another attempt
        # The list's digest was of what came, and has been compared; what is stored may be another picture file.
        known = table.column("sha256").to_pylist()
        came = set(remote)
        taken = _with(table, "place", pa.array(places, PLACE))
        digests = [None if row in came else sha for row, sha in enumerate(known)]
        taken = _with(taken, "sha256", pa.array(digests, pa.string()))
        images = taken.filter(pc.is_valid(taken.column("place")))
        return ingest_shard(storage, images, shard, claim.origin, spec, claim.bytes_column, attempt + 1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _with(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    at = table.schema.get_field_index(name)
    return table.set_column(at, table.schema.field(at), values)


def _fetch(
    table: pa.Table,
    remote: Sequence[int],
    folder: Path,
    spec: IngestSpec,
    places: list[dict[str, Any] | None],
    said: list[str | None],
) -> None:
    """Fill `places` and `said` of the rows in `remote`."""
    refusals = Refusals.load(spec)
    chosen = table.take(pa.array(remote, pa.int64()))
    given = {"url": chosen.column("url"), "caption": chosen.column("text"), ROW: pa.array(remote, pa.int64())}
    digests = chosen.column("sha256")
    verify = digests.null_count < len(digests)
    if verify and digests.null_count:
        raise UserError(
            "`backend: img2dataset` compares the sha256 of all rows or of none, and this list has it for some; "
            "leave the column out: `sha256: null` under `source:`"
        )
    if verify:
        given["sha256"] = pc.utf8_lower(digests)
    source, out = folder / "urls.parquet", folder / "out"
    pq.write_table(pa.table(given), source)
    if not _run(spec, arguments(spec, source, out, len(remote), verify=verify)):
        for row in remote:
            said[row] = f"gave_up: img2dataset was not done when the shard's {spec.shard_deadline_s:g} s were over"
        return
    for done in Output(str(out), "shard").shards:
        rows = pq.read_table(done.table)
        found = places_of(done, rows, pc.array_sort_indices(rows.column("key")).to_numpy())
        cells = zip(rows.select([ROW, "status", "error_message", "sha256"]).to_pylist(), found, strict=True)
        for cell, place in cells:
            if cell["sha256"] and refusals.has_sha256(bytes.fromhex(cell["sha256"])):
                # Its digest is of what came; what it stored may be another file of the same picture.
                said[cell[ROW]] = "refused_list: its sha256 is on a list of refusals"
            elif cell["status"] == "success" and place is not None:
                places[cell[ROW]], said[cell[ROW]] = place, None
            elif cell["status"] != "success":
                said[cell[ROW]] = words(cell["status"], cell["error_message"])


def _run(spec: IngestSpec, options: Sequence[str]) -> bool:
    """Run it; False where the deadline came first.

    Raises:
        UserError: it is not there. RuntimeError: it failed, with what it said last.
    """
    command = [str(spec.img2dataset_python), "-m", "img2dataset.main", *options]
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")  # of our environment, not of its own
    env = {k: v for k, v in os.environ.items() if k not in hidden} | {"NO_ALBUMENTATIONS_UPDATE": "1"}
    try:
        running = subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            start_new_session=True,
        )  # fmt: skip
    except OSError as e:
        raise UserError(f"img2dataset_python: {spec.img2dataset_python}: {e.strerror}") from e
    try:
        output, _ = running.communicate(timeout=spec.shard_deadline_s)
    except subprocess.TimeoutExpired:
        return False
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)  # with its own processes
            running.wait()
            if running.stdout is not None:
                running.stdout.close()
    if "No module named" in output and "img2dataset" in output and running.returncode:
        raise UserError(
            f"img2dataset_python: {spec.img2dataset_python} has no img2dataset; in an environment of its own: "
            "python -m venv i2d && i2d/bin/pip install img2dataset"
        )
    if running.returncode:
        raise RuntimeError(f"img2dataset ended with {running.returncode}: ... {output[-TAIL:]}")
    return True
