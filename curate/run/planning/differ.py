"""Two notes of the same method compared: in which words does what is wanted differ from what is there?

    differences(wanted, there, look)      # ["parameter `min_prob`: 0.5 -> 0.6", "version 1 -> 2"]

Notes are the about.json that lie beside folders; `look` gives the note of another folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from curate.run.planned import UNKNOWN

Note = Mapping[str, Any]
Look = Callable[[str], Note]
LONGEST = 60  # characters of a value
DIGEST = "digest:"
MISSING = "(none)"
REMOVED = "samples were removed from the pool"
DEEPEST = 6  # columns that read columns that read columns


def differences(new: Note, old: Note, look: Look, depth: int = 0) -> list[str]:
    """What differs, the most telling first; nothing if the notes say nothing of it."""
    own = [*_identity(new.get("identity", {}), old.get("identity", {}))]
    if not own and _differ(new, old, "rules"):
        own.append("the SQL of its rules changed")
    own += [*_above(new, old, look), *_generation(new, old)]
    if _differ(new, old, "removed"):
        own.append(REMOVED)
    if depth < DEEPEST:
        own += [phrase for phrase in _reads(new, old, look, depth) if not _said(phrase, own)]
    return own


def _differ(new: Note, old: Note, key: str) -> bool:
    """Do both say something of it, and not the same?"""
    return key in new and key in old and new[key] != old[key]


def _said(phrase: str, before: Sequence[str]) -> bool:
    """Is this but the reason of what it reads, which is its own reason too (a pool that grew)?"""
    return any(phrase.endswith(f", where {p}") for p in before)


# ---------------------------------------------------------------- what it is


def _identity(new: Note, old: Note) -> list[str]:
    found = []
    if new.get("version") != old.get("version"):
        found.append(f"version {old.get('version')} -> {new.get('version')}")
    weights = False
    for path, before, after in _changes(old.get("parameters", {}), new.get("parameters", {})):
        if _is_digest(before) and _is_digest(after):
            weights = True
            found.append(f"weights differ (digest {_short(before)} -> {_short(after)})")
        else:
            name = "where" if (new.get("name"), path) == ("where", "sql") else path  # as recipes have it
            found.append(f"parameter `{name}`: {said(before)} -> {said(after)}")
    files = [old.get("files", []), new.get("files", [])]
    if files[0] != files[1] and not weights:
        before, after = (", ".join(f[:8] for f in of if f not in files[1 - i]) for i, of in enumerate(files))
        found.append(f"weights differ (digest {before or MISSING} -> {after or MISSING})")
    return found


def _changes(old: Any, new: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    """(path, before, after) of each value that differs in nested parameters."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = dict.fromkeys([*new, *old])
        return [c for n in names for c in _changes(old.get(n), new.get(n), f"{path}.{n}" if path else n)]
    return [] if old == new else [(path, old, new)]


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(DIGEST)


def _short(digest: str) -> str:
    return digest.removeprefix(DIGEST)[:8]


def said(value: Any) -> str:
    """A value as a recipe would have it, cut off where it is long."""
    if value is None:
        return MISSING
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


# ---------------------------------------------------------------- what it reads


def _reads(new: Note, old: Note, look: Look, depth: int) -> list[str]:
    """Why the columns and barriers that it reads are others."""
    if "reads" not in new or "reads" not in old:
        return []
    found: dict[str, None] = {}
    before = {_field(r): _home(r) for r in old["reads"]}
    after = {_field(r): _home(r) for r in new["reads"]}
    for name in after.keys() - before.keys():
        found[f"reads `{name}` now"] = None
    for name in before.keys() - after.keys():
        found[f"reads `{name}` no more"] = None
    pairs = [(before[n], after[n], n) for n in after if n in before]
    pairs += [(b, a, "") for b, a in zip(old.get("barriers", []), new.get("barriers", []), strict=False)]
    for was, now, name in pairs:
        if was == now:
            continue
        if _method(was) != _method(now):
            found[f"reads `{name}` of {_method(now)}, of {_method(was)} before"] = None
            continue
        inner = differences(look(now), look(was), look, depth + 1)
        found.update(dict.fromkeys(f"reads {_method(now)}, where {why}" for why in inner))
    return list(found)


def _field(read: str) -> str:
    return read.rpartition(":")[2]


def _home(read: str) -> str:
    return read.rpartition(":")[0]


def _method(folder: str) -> str:
    """``columns/language@0123`` -> language, ``columns/my.module.MyStage@0123`` -> my_stage; no folder: the facts."""
    name = folder.rpartition("/")[2].rpartition("@")[0].rpartition(".")[2]
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower() or "the facts"


def _above(new: Note, old: Note, look: Look) -> list[str]:
    """Which filters above differ, by their ids."""
    if not _differ(new, old, "above"):
        return []
    changed = [f for f in new["above"] if f not in old["above"]] + [f for f in old["above"] if f not in new["above"]]
    if not changed:
        return ["the filters above changed their order"]
    ids = dict.fromkeys(look(f).get("id") or _method(f) for f in changed)
    return [f"the filters above changed: {', '.join(f'`{i}`' for i in ids)}"]


def _generation(new: Note, old: Note) -> list[str]:
    if not _differ(new, old, "generation"):
        return []
    if "seen" not in new or "seen" not in old:
        return ["the pool changed"]
    (was, rows_were), (now, rows_now) = old["seen"], new["seen"]
    about = "about " if new["generation"] == UNKNOWN else ""
    if was != now:
        return [f"the pool {'grew' if now > was else 'shrank'}: {was:,} -> {now:,} shards"]
    if rows_were != rows_now:
        return [f"the pool changed: {rows_were:,} -> {about}{rows_now:,} samples"]
    return ["the pool changed: other samples in the same shards"]


# ---------------------------------------------------------------- picks


def pick_differences(new: Note, old: Note, look: Look) -> list[str]:
    """Why a pick is another: the shards, the filters by id, the captions, what was taken down."""
    del look
    found = []
    was, now = len(old.get("shards", [])), len(new["shards"])
    if was != now:
        found.append(f"the pool {'grew' if now > was else 'shrank'}: {was:,} -> {now:,} shards")
    before, after = ({s["id"]: s["folder"] for s in note.get("steps", [])} for note in (old, new))
    for words, ids in (
        ("filters are new", [i for i in after if i not in before]),
        ("filters are gone", [i for i in before if i not in after]),
        ("filters changed", [i for i in after if i in before and after[i] != before[i]]),
    ):
        if ids:
            found.append(f"{words}: {', '.join(f'`{i}`' for i in ids)}")
    if not found and list(before) != list(after):
        found.append("the filters changed their order")
    if any(_differ(new, old, n) for n in ("emit", "sources", "conditions")):
        found.append("`captions:` changed")
    if _differ(new, old, "removed"):
        found.append(REMOVED)
    if not found and _differ(new, old, "generation"):
        found.append("the pool changed")
    return found
