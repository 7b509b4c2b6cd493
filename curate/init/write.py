"""The recipe of `curate init`: YAML with comments that say what was seen and why a default was chosen.

Captions, names and hosts come from strangers: what stands in a comment goes through `comment`, which leaves no
line end of any kind, and what stands in YAML through `curate.recipe_yaml.dump`.
"""

from __future__ import annotations

import json
import shlex
import textwrap
from collections.abc import Sequence
from pathlib import Path

from curate.ask.output import visible
from curate.catalog import default_fields
from curate.init.choices import (
    MIN_SIDES,
    WORDS,
    kept_languages,
    least_side,
    least_words,
    nice_shard_size,
    written_without_spaces,
)
from curate.init.hints import hints, pool_names
from curate.init.look import Role, Seen
from curate.init.words import captions_words, examples, hosts_words, input_words, percent, sizes_words
from curate.recipe_schema import HEADER
from curate.recipe_yaml import dump

WIDTH = 116
ROLES = {
    "uid": "names of its own: the input's; null makes them of text and url",
    "sha256": "what the bytes must have; others are an outcome, hash_mismatch",
}


def comment(text: str, indent: int = 0, hang: int = 0) -> str:
    """Lines of a comment: everything that is no plain character is escaped, long lines are folded."""
    lines = textwrap.wrap(
        visible(text), WIDTH - indent, subsequent_indent=" " * hang, break_on_hyphens=False, drop_whitespace=True
    )
    return "".join(f"{' ' * indent}# {line}\n" for line in lines)


def recipe_text(seen: Seen, name: str, input_path: str, out: Path) -> str:
    """The whole file."""
    return "\n".join(
        section
        for section in (
            _head(seen, out),
            _names(seen, name),
            _source(seen, input_path),
            _ingest(seen),
            _filters(seen),
            _pack(seen),
        )
        if section
    )


def _head(seen: Seen, out: Path) -> str:
    path = shlex.quote(str(out))
    return (
        f"{HEADER}\n"
        + comment("The line above lets editors complete and check this file: curate schema --out recipe.schema.json")
        + comment(f"Written by `curate init`, which looked at {input_words(seen)}. Next:")
        + comment(f"  curate plan {path}      says what a run would do, and runs nothing")
        + comment(f"  curate run {path}       does it; the same command goes on where it stopped")
    )


def _names(seen: Seen, name: str) -> str:
    text = dump({"recipe": name, "pool": f"pools/{name}"})
    size = nice_shard_size(seen.sample.rows.n)
    if size is not None:
        shards = -(-seen.sample.rows.n // size)
        text += comment(
            f"Samples in a shard, the unit of work: so this input makes about {shards:,}, for several workers. "
            "The default is 10,000; a pool keeps what it was made with."
        )
        text += dump({"shard_size": size})
    return text


# ---------------------------------------------------------------- source


def _source(seen: Seen, input_path: str) -> str:
    lines = "".join(comment(c) for c in seen.sample.complaints)
    lines += "source:\n" + _indented(_line("path", input_path)) + _indented(_line("kind", seen.source.kind))
    for role, chosen in seen.roles.items():
        lines += _noted(_line(role, chosen.name), _why(role, chosen))
    return lines + _keep(seen)


def _why(key: str, role: Role) -> str:
    if key in ROLES:
        return ROLES[key]
    return ("by its values" if role.by_values else "") + (
        f"may also be {', '.join(map(json.dumps, role.others))}" if role.others else ""
    )


def _keep(seen: Seen) -> str:
    """Further columns are carried along; not those that would hide a column of curate's own."""
    known = default_fields()
    names = pool_names(seen)
    hiding = [n for n in seen.extras if names[n] in known]
    rest = [n for n in seen.extras if n not in hiding]
    words = ", ".join(f"{json.dumps(n)} ({seen.extras[n]})" if seen.extras[n] else json.dumps(n) for n in rest)
    if not hiding:
        return _noted("keep: all", f"carried along: {words}") if rest else ""
    why = ", ".join(f"{n!r} (of {known[names[n]].owner.method()})" for n in hiding)  # type: ignore[union-attr]
    return comment(
        f"Left out, since in filters and SQL they would hide columns that curate computes: {why}", 2
    ) + _noted(f"keep: {json.dumps(rest)}", f"carried along: {words}" if rest else "")


# ---------------------------------------------------------------- ingest


def _ingest(seen: Seen) -> str:
    text = "ingest:\n"
    if seen.hosts and seen.source.kind == "urls":
        text += comment(f"Hosts: {hosts_words(seen.hosts)}.", 2) + _manners(seen)
    if seen.sizes:
        text += comment(f"Pictures: {sizes_words(seen.sizes)}.", 2)
    text += _indented("resize: long  # the longer side becomes `side`; or short, border, crop; none keeps the bytes")
    return text + _indented("side: 512  # pixels; what is smaller is not enlarged")


def _manners(seen: Seen) -> str:
    assert seen.hosts is not None
    if seen.hosts.loopback == seen.hosts.taken:
        return comment(
            "All of them are on this machine. That is how tests and demonstrations look, and also how a list looks "
            "that wants to reach what only this machine can: say that it is yours by taking the # away:",
            2,
        ) + _indented("# allow_loopback: true")
    return comment(
        "Site owners must be able to reach whoever fetches their images, so without this line only plans are made. "
        "A URL or mail address of yours, which is sent with every request:",
        2,
    ) + _indented("# contact: https://example.org/our-crawler")


# ---------------------------------------------------------------- filters


def _filters(seen: Seen) -> str:
    text = "filters:\n" + comment(
        "In order: the first that says no is the reason. `curate report` shows what each dropped, with pictures.", 2
    )
    text += _image_size(seen)
    text += '  - id: not_blank\n    where: "not blank"\n    on_missing: drop  # pictures that do not decode\n'
    text += _of_texts(seen)
    text += "  - id: exact\n    keep_one: {by: sha256, over: survivors}  # the same file twice: one stays\n"
    text += comment("Near-copies, resized or encoded anew:", 2)
    text += "  # - id: near\n  #   keep_one: {by: phash64, distance: 4, over: survivors}\n"
    suggested = hints(seen)
    if suggested:
        text += comment("Columns of the input that a filter could use; take the # away:", 2)
    for hint in suggested:
        text += comment(hint.why, 2)
        text += f"  # - {hint.step}\n  #   on_missing: drop\n"
    return text


def _image_size(seen: Seen) -> str:
    side = least_side(seen.sizes)
    text = ""
    if seen.sizes:
        tried = ", ".join(f"{s}: {percent(seen.sizes.below(s))}" for s in MIN_SIDES)
        text = comment(f"Share of the pictures with a shorter side below {tried}.", 2)
    return text + f"  - image_size: {{min_side: {side}, max_aspect: 3}}\n"


def _of_texts(seen: Seen) -> str:
    found = seen.captions
    if found is None or not found.full:
        what = "No texts were found" if found is None else "All texts of the sample are empty"
        return comment(
            f"{what}, so that no filter asks for one. What has no text is left out of a pick (as `no_text`): say which "
            "column has it (`text:` above), or have captions written (`captions:`, see docs/writing.md).",
            2,
        )
    text = comment(f"Captions: {captions_words(found)}. Three of them:", 2)
    text += "".join(comment(f"  {e}", 2, hang=4) for e in examples(found))
    keep = kept_languages(found)
    if keep:
        text += f"  - id: {'english' if keep == ['en'] else 'languages'}\n"
        text += f"    language: {{keep: [{', '.join(keep)}]}}  # the largest, and all above 10%\n"
        text += "    on_missing: drop\n"
    else:
        text += comment("Of none can the language be told for sure, so that no filter asks for one.", 2)
    return text + _caption_length(seen, keep)


def _caption_length(seen: Seen, keep: Sequence[str]) -> str:
    assert seen.captions is not None
    if written_without_spaces(keep):
        text = comment("Characters, not words: some of these languages are written without spaces.", 2)
        return text + "  - caption_length: {min_chars: 4}\n    on_missing: drop\n"
    words = least_words(seen.captions)
    tried = ", ".join(f"{w}: {percent(seen.captions.fewer(w))}" for w in WORDS)
    return (
        comment(f"Share of the captions with fewer words than {tried}.", 2)
        + f"  - caption_length: {{min_words: {words}}}\n    on_missing: drop\n"
    )


def _pack(seen: Seen) -> str:
    size = nice_shard_size(seen.sample.rows.n) or 10_000
    return f"pack: {{samples: {size}}}  # samples a file at most\n"


def _line(key: str, value: str | None) -> str:
    line = dump({key: value}).strip()
    return line if "\n" not in line else f"{key}: {json.dumps(value)}"  # what YAML would fold


def _noted(line: str, note: str) -> str:
    """A line below a section with a comment: behind it where there is room, else above it."""
    short = f"  {line}  # {visible(note)}\n"
    if not note:
        return _indented(line)
    return short if len(short) <= WIDTH + 4 else comment(note, 2) + _indented(line)


def _indented(line: str) -> str:
    return f"  {line}\n"
