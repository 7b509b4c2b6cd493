"""LLaVA's data, in and out: a JSON array of `{"id", "image", "conversations": [{"from": "human" | "gpt", "value"}]}`.

    for line in import_llava("llava_v1_5_mix665k.json", "pools/llava", images="llava/images"): print(line)
    for line in export_llava("pools/mine/packs/mine@0123456789ab", "out"): print(line)

In a pool the conversation is the sample's text, the JSON of its turns, which `training_smoke` reads as such. Out of it,
of a pack: a text that is turns is a conversation, any other a caption, for which a request to describe is drawn by uid,
as in the data of LLaVA's first stage (Liu et al. 2023, appendix). `<image>` stands once, in the first human turn.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from curate.errors import UserError
from curate.interchange.interleaved import FOLDER, list_in, text_in
from curate.interchange.interleaved_take import label_of
from curate.interchange.llava_read import entries
from curate.pool.layout import folder_name, short_hash
from curate.pool.lists import Findings
from curate.pool.storage import Storage
from curate.run.sources.files import digest, expand
from curate.text import visible

VERSION = 2  # rises when the same file would give another list
BATCH = 10_000
LIST = pa.schema([("file", pa.string()), ("text", pa.string()), ("llava_id", pa.string())])
IMAGE = "<image>"
ROLES = {"human": "human", "user": "human", "gpt": "gpt", "assistant": "gpt"}
REQUESTS = (
    "Describe the picture in a few words.",
    "What is in this picture?",
    "Say in one sentence what you see.",
    "Give a short description of the image.",
    "Write a brief caption for this photo.",
    "Sum up what the picture shows.",
    "What does this image show? Be brief.",
    "Caption this.",
)
"""Requests for a caption, of our own; which one is drawn by uid."""


# ------------------------------------------------------------------------------------------ in


def import_llava(path: str, pool_url: str, *, images: str, name: str | None = None) -> list[str]:
    """Make the list of a LLaVA file: picture, conversation, id; the pictures are in the folder `images`.

    Entries without a picture or with several are no samples, and are counted; so is what is no conversation.

    Returns:
        What was found, in words, and the `source:` of a recipe for it.

    Raises:
        UserError: no JSON of this kind, or nothing in it that can be used.
    """
    files = expand((path,))
    storage = Storage.at(pool_url)
    folder = folder_name(FOLDER, label_of([path], name), short_hash([VERSION, "llava", [digest(f) for f in files]]))
    rel, findings = f"{folder}/list.parquet", Findings()
    said = f"{folder}/about.json"
    if not storage.exists(said):
        rows = _write(storage, rel, files, findings)
        about = {"format": "llava", "files": files, "rows": rows, "refused": findings.refused()}
        if not rows:
            raise UserError(f"{path}: nothing in it can be used; refused: {findings.refused()['examples'][:3]}")
        storage.commit(said, json.dumps(about, indent=1).encode())
    about = json.loads(storage.read(said))
    source = {"path": images, "kind": "folder", "table": str(storage.local(rel)), "file": "file", "text": "text"}
    keys = ", ".join(f"{key}: {json.dumps(value)}" for key, value in source.items())
    refused = about["refused"]
    why = ", ".join(f"{reason} {n:,}" for reason, n in refused["reasons"].items())
    return [
        f"{folder}: {about['rows']:,} conversations" + (f"; {refused['count']:,} refused ({why})" if why else ""),
        "in a recipe:",
        f"  pool: {json.dumps(storage.url)}",
        f"  source: {{{keys}}}",
    ]


def _write(storage: Storage, rel: str, files: Sequence[str], findings: Findings) -> int:
    """The list as parquet, a batch of rows in memory; returns the rows."""
    path, rows = storage.scratch(), 0
    samples = (row for file in files for row in _samples(file, findings))
    with pq.ParquetWriter(path, LIST, compression="zstd") as out:
        while some := list(islice(samples, BATCH)):
            out.write_table(pa.Table.from_pylist(some, schema=LIST))
            rows += len(some)
    storage.commit(rel, path)
    return rows


def _samples(file: str, findings: Findings) -> Iterator[dict[str, Any]]:
    for number, entry in entries(file, findings):
        try:
            yield sample_of(entry)
        except ValueError as e:
            findings.refuse(file, str(number), visible(str(e))[:160])


def sample_of(entry: Any) -> dict[str, Any]:
    """A row of `LIST`.

    Raises:
        ValueError: it has no picture, or several, or is no conversation; says which.
    """
    if not isinstance(entry, dict):
        raise ValueError("no JSON object")
    image, name = entry.get("image"), entry.get("id")
    if image is None:
        raise ValueError("without a picture")
    if isinstance(image, list):
        raise ValueError("several pictures")
    turns = turns_in(entry.get("conversations"))
    said = json.dumps(turns, ensure_ascii=False)
    return {"file": text_in(image, "image"), "text": said, "llava_id": None if name is None else str(name)[:256]}


def turns_in(value: Any) -> list[dict[str, str]]:
    """Turns of a conversation with the names that `training_smoke` knows.

    Raises:
        ValueError: they do not alternate from a human's to an answer, or there is a system's among them: a text of a
            pool may be anybody's, and nobody's text is a system prompt.
    """
    turns: list[dict[str, str]] = []
    for one in list_in(value, "conversations"):
        if not isinstance(one, dict):
            raise ValueError("a turn is no JSON object")
        said = text_in(one.get("from"), "from of a turn")
        if said == "system":
            raise ValueError("a turn is of the system")
        who = ROLES.get(said)
        if who is None:
            raise ValueError("a turn is of neither human nor gpt")
        turns.append({"from": who, "value": text_in(one.get("value"), "value of a turn")})
    if not turns or len(turns) % 2 or any(t["from"] != ("human", "gpt")[i % 2] for i, t in enumerate(turns)):
        raise ValueError("no conversation of human and gpt in turn")
    return turns


# ------------------------------------------------------------------------------------------ out


def export_llava(pack_url: str, folder: str, *, every: bool = False, images: bool = True) -> list[str]:
    """Write a pack as LLaVA's trainers read it: `llava.json`, and images/<tar>/<key>.<suffix>.

    Args:
        every: an entry for each text of a sample; else for its most probable one.
        images: write the pictures, too; without them `llava.json` names them as they would be.

    Returns:
        What was done, in words.

    Raises:
        UserError: there is no whole pack.
    """
    from training_smoke.errors import TrainingError
    from training_smoke.packs import Pack

    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    temporary = out / "llava.json.part"
    try:
        pack = Pack.open(pack_url)
        with temporary.open("w", encoding="utf-8") as f:
            count, left_out = _entries(pack, out, f, every=every, images=images)
    except TrainingError as e:
        raise UserError(str(e)) from e
    temporary.replace(out / "llava.json")
    but = f"; {left_out:,} texts left out: turns that do not alternate between human and gpt" if left_out else ""
    return [f"{out / 'llava.json'}: {count:,} conversations of {len(pack):,} samples{but}"]


def _entries(pack: Any, out: Path, f: IO[str], *, every: bool, images: bool) -> tuple[int, int]:
    """(entries written, texts left out)."""
    count, left_out, starts = 0, 0, 0
    f.write("[")
    for tar, size in zip(pack.names, pack.sizes.tolist(), strict=True):
        place = out / "images" / Path(tar).stem
        if images:
            place.mkdir(parents=True, exist_ok=True)
        for number in range(starts, starts + size):
            sample = pack.read(number)
            key = f"{sample.uid}-{int(pack.samples.copy[number])}" if pack.samples.copy[number] else sample.uid
            name = f"{key}.{_suffix(sample.image)}"
            unwritten = images
            likeliest = max(sample.texts, key=lambda t: t[1])
            for text, _ in sample.texts if every else [likeliest]:
                entry = entry_of(sample.uid, text, f"{Path(tar).stem}/{name}")
                if entry is None:
                    left_out += 1
                    continue
                if unwritten:
                    (place / name).write_bytes(sample.image)
                    unwritten = False
                f.write(",\n" * bool(count) + "\n" * (not count) + json.dumps(entry, ensure_ascii=False))
                count += 1
        starts += size
    f.write("\n]\n")
    return count, left_out


def entry_of(uid: str, text: str, image: str) -> dict[str, Any] | None:
    """An entry of LLaVA's file; None: the text is turns that do not alternate: they say nothing of a picture, and
    training leaves them out by the same rule."""
    from training_smoke.conversations import turns_of

    turns = turns_of(text)
    if turns is None:
        request = REQUESTS[xxhash.xxh3_64_intdigest(f"request/{uid}".encode()) % len(REQUESTS)]
        said = [("human", request), ("gpt", text)]
    elif turns:
        said = [(turn.who, turn.said) for turn in turns]
    else:
        return None
    written = [{"from": who, "value": _unmarked(words)} for who, words in said]
    first = next(turn for turn in written if turn["from"] == "human")
    first["value"] = f"{IMAGE}\n{first['value']}"
    return {"id": uid, "image": image, "conversations": written}


def _unmarked(words: str) -> str:
    """Without the mark of the picture, which trainers would count as another picture."""
    parts = (part.strip() for part in words.split(IMAGE))
    return " ".join(parts).strip()  # with a space, so that no two halves become a mark


def _suffix(image: bytes) -> str:
    """jpg, png or webp, by the first bytes."""
    if image.startswith(b"\x89PNG"):
        return "png"
    return "webp" if image[8:12] == b"WEBP" else "jpg"
