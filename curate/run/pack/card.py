"""The dataset card of a pack: README.md as Hugging Face lays it out, from the manifest alone.

Same manifest, same bytes. Names and captions from the web stand in code spans or YAML strings: none can end either.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from curate.text import visible
from training_smoke import markdown
from training_smoke.markdown import fenced, table

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
         (10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"), (1_000_000_000, "100M<n<1B"),
         (10_000_000_000, "1B<n<10B"), (100_000_000_000, "10B<n<100B"), (1_000_000_000_000, "100B<n<1T"))  # fmt: skip
TASKS = ["image-to-text", "text-to-image", "zero-shot-image-classification"]
ROWS = 20  # of a table
LANGUAGES = 0.01  # share of a language that is worth its tag


def card(manifest: Mapping[str, Any]) -> str:
    """README.md of a pack."""
    name, counts = manifest["recipe"]["name"], manifest["counts"]
    head = yaml.safe_dump(front_matter(manifest), sort_keys=False, allow_unicode=False)
    parts = [
        f"---\n{head}---\n\n# {name}\n",
        f"{counts['samples']:,} image-text pairs in {counts['files']:,} files, {human(counts['bytes'])}: what the "
        f"recipe {code(name)} kept of a pool of {counts['rows']:,} samples with an image ({counts['kept']:,} samples, "
        f"{counts['times']:,} copies). Made with curate {code(manifest['curate'])}.\n",
        funnel(manifest),
        sources(manifest),
        fetched(manifest),
        *(tally(manifest, key, title) for key, title in (("lang", "Languages"), ("licence", "Licences"))),
        FIELDS[manifest["pack"]["format"]],
        loading(manifest),
        LIMITS,
        recipe(manifest),
    ]
    return "\n".join(p for p in parts if p)


def front_matter(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The YAML block that the hub reads."""
    samples = manifest["counts"]["samples"]
    census = manifest["census"]
    languages = [n for n, c in census.get("lang", {}).items() if n.isalpha() and c >= LANGUAGES * samples]
    licences = [n for n in census.get("licence", {}) if n]
    whole = len(licences) == 1 and census["licence"][licences[0]] == samples
    suffix = "tar" if manifest["pack"]["format"] == "webdataset" else "parquet"
    found: dict[str, Any] = {"pretty_name": manifest["recipe"]["name"], "license": "other"}
    found["license_name"] = licences[0] if whole else "as the sources state"
    if languages:
        found["language"] = languages
    found["size_categories"] = [next((word for most, word in SIZES if samples < most), "n>1T")]
    found["task_categories"] = TASKS
    found["tags"] = ["image-text", manifest["pack"]["format"], "curate", "croissant"]
    found["configs"] = [
        {"config_name": "default", "data_files": [{"split": "train", "path": f"[0-9]*.{suffix}"}]},
        {"config_name": "samples", "data_files": [{"split": "train", "path": "samples/*.parquet"}]},
    ]
    return found


def funnel(manifest: Mapping[str, Any]) -> str:
    """What each filter dropped first."""
    left = manifest["counts"]["rows"]
    rows = [["all with an image", "", "", f"{left:,}"]]
    for step in manifest["dropped"]:
        left -= step["count"]
        rows.append([code(step["id"]), code(step["filter"] or ""), f"{step['count']:,}", f"{left:,}"])
    note = "A sample counts where it was dropped first. In order:\n"
    return f"## What was dropped\n\n{note}\n{table(['filter', 'method', 'dropped', 'left'], rows)}\n"


def sources(manifest: Mapping[str, Any]) -> str:
    """The lists that the pool was made from, and what each gave to this pack."""
    given = manifest["census"].get("list", {})
    rows = []
    for claim in manifest["lists"][:ROWS]:
        name = f"{claim['list']}@{claim['hash']}" if claim.get("hash") else claim["list"]
        count = given.get(name, given.get(claim["list"]))
        rows.append([code(name), f"{claim.get('rows', 0):,}", "" if count is None else f"{count:,}"])
    more = len(manifest["lists"]) - ROWS
    said = f"\nand {more:,} more, in `manifest.json`.\n" if more > 0 else ""
    return f"## Sources\n\n{table(['list', 'samples listed', 'copies in this pack'], rows)}\n{said}"


def fetched(manifest: Mapping[str, Any]) -> str:
    """Who asked for the images, and which wishes of owners were not heeded."""
    lines = []
    for said in manifest.get("fetched", ()):
        ignored = ", ".join(code(name) for name in said["ignored"]) or "none"
        lines.append(f"- as {code(said['agent'])}; wishes of owners that were turned off by name: {ignored}")
    return "\n".join(["## How the images were fetched\n", *lines, ""]) if lines else ""


def tally(manifest: Mapping[str, Any], key: str, title: str) -> str:
    """How many copies have each value, where the pool knows."""
    counts = manifest["census"].get(key)
    if not counts:
        return ""
    samples = manifest["counts"]["samples"]
    rows = [[code(n) if n else "not known", f"{c:,}", f"{c / samples:.1%}"] for n, c in list(counts.items())[:ROWS]]
    rest = sum(list(counts.values())[ROWS:])
    rows += [[f"{len(counts) - ROWS:,} others", f"{rest:,}", f"{rest / samples:.1%}"]] if rest else []
    return f"## {title}\n\n{table([title.lower(), 'copies', 'share'], rows)}\n"


FIELDS = {
    "webdataset": """\
## What is in a sample

| member | what |
| --- | --- |
| `<key>.jpg`, `.png` or `.webp` | the image; the key is the uid, with `-0`, `-1`, ... where a sample is there \
several times |
| `<key>.txt` | one text, the likeliest |
| `<key>.json` | uid, url, list, recipe, sizes as stored and as received, sha256 of the bytes received, copies or \
weight, all texts with their source and probability, and the input's further columns |

`samples/<file>.parquet` says the same of each sample without opening a tar: url, list, recipe, the filters that it \
passed (`kept`), and where its image lies (`file`, `offset`, `bytes`). `manifest.json` has the sha256 of every file; \
`sizes.json` how many samples each has.
""",
    "parquet": """\
## What is in a sample

| column | what |
| --- | --- |
| `image` | the encoded image, as Hugging Face `datasets` reads it |
| `text` | one text, the likeliest |
| `uid` | 32 hex digits |
| `json` | url, list, recipe, sizes as stored and as received, sha256 of the bytes received, all texts with their \
source and probability, and the input's further columns |

`samples/<file>.parquet` says the same of each sample without the images: url, list, recipe and the filters that it \
passed (`kept`). `manifest.json` has the sha256 of every file; `sizes.json` how many samples each has.
""",
}

LIMITS = """\
## Limits

Images and texts are from where the lists say, mostly the open web: they may be wrong, offensive, private or under \
copyright, and what is not filtered by the recipe above is in here. The licences are those that the sources state. \
To take a sample out, give its uid to `curate purge`, and pack again; copies of this pack made before still hold it.
"""


def loading(manifest: Mapping[str, Any]) -> str:
    """Code that reads the pack from its own folder; each block is run by a test."""
    files, samples = manifest["counts"]["files"], manifest["counts"]["samples"]
    look = (
        "```python\nimport duckdb\n\n"
        "print(duckdb.sql(\"SELECT list, count(*) FROM 'samples/*.parquet' GROUP BY 1\"))\n```\n"
    )
    if manifest["pack"]["format"] == "parquet":
        load = (
            '```python\nfrom datasets import load_dataset\n\ndata = load_dataset("parquet", '
            'data_files={"train": "[0-9]*.parquet"}, split="train")\n'
            'print(data[0]["text"], data[0]["image"].size)\n```\n'
        )
        return f"## How to load it\n\n{load}\n{look}"
    names = f"{0:08d}.tar" if files == 1 else f"{{{0:08d}..{files - 1:08d}}}.tar"
    return (
        "## How to load it\n\n"
        f'```python\nimport webdataset\n\ndata = webdataset.WebDataset("{names}", shardshuffle=False).decode("pil")\n'
        'for sample in data.to_tuple("jpg;png;webp", "txt"):\n    print(sample)\n    break\n```\n\n'
        '```python\nfrom datasets import load_dataset\n\ndata = load_dataset("webdataset", '
        'data_files={"train": "[0-9]*.tar"}, split="train", streaming=True)\nprint(next(iter(data))["txt"])\n```\n\n'
        f"open_clip: `--dataset-type webdataset --train-data '{names}' --train-num-samples {samples}`\n\n{look}"
    )


def recipe(manifest: Mapping[str, Any]) -> str:
    """The whole recipe, and what names its result."""
    lines = "\n".join(visible(line, "\t") for line in manifest["recipe"]["yaml"].splitlines())
    return (
        f"## Recipe\n\n{fenced(lines, 'yaml')}\n"
        f"Pick {code(manifest['pick'])}, seed {manifest['pack']['seed']}; the same recipe on the same pool gives the "
        "same bytes.\n"
    )


def code(text: str) -> str:
    """A code span of words from the web."""
    return markdown.code(visible(text), 120)


def human(size: float) -> str:
    """``17.3 MB``."""
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
