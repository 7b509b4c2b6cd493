"""What the text rules of published recipes keep of real alt-texts: LAION's, as found, and Conceptual Captions', picked.

Each set is a pool of its own, with a picture of noise to every text, since only texts decide here; the rest is a run.
Recipes that ask how rare a word is mean billions of texts. Here the corpus is all English captions at hand, in lower
case, and the bounds are smaller; so are the pools whose copies are counted. What differs is said beside.
"""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from common import SHARED, Bar, bar, fresh

from curate.recipe import load_recipe
from curate.run.job import Job
from curate.run.progress import Progress
from stages.tokens import tokens

SETS = {"laion": ("laion_urls_10k.parquet", "text"), "cc3m": ("cc3m_validation.parquet", "caption")}
ENGLISH = "  - language: {keep: [en]}\n    on_missing: drop\n"
CLD3 = "  - language: {keep: [en], column: lang_cld3}\n    on_missing: drop\n"


def where(id: str, sql: str) -> str:
    return f'  - id: {id}\n    where: "{sql}"\n    on_missing: drop\n'


def length(words: str) -> str:
    return f"  - caption_length: {{{words}}}\n    on_missing: drop\n"


RECIPES = {
    "datacomp_basic": ENGLISH + length("min_words: 3, min_chars: 6"),
    "datacomp_laion2b": CLD3,
    "laion400m": where("length", "n_chars >= 5") + CLD3,
    "coyo": CLD3
    + length("min_words: 3, max_words: 256, min_chars: 6, max_chars: 1000, count: coyo")
    + "  - count_limit: {by: text_clean, most: 10, over: survivors}\n    on_missing: drop\n",
    "cc3m": where("repetition", "token_repetition <= 0.2")
    + where("boilerplate", "NOT boilerplate AND NOT url_like")
    + where("rare", "vocabulary_min_count >= 2")
    + where("capitals", "NOT first_word_lower AND capitalised_ratio <= 0.8"),
    "cc12m": length("min_words: 3, max_words: 256")
    + where("repetition", "word_repetition <= 0.2")
    + where("rare", "vocabulary_min_count >= 4"),
    "align": where("pictures", "text_sha256s <= 10")
    + where("rare", "ngrams_oov = 0")
    + length("min_words: 3, max_words: 20"),
}
LEFT_OUT = {
    "coyo": "nouns and profanity lists",
    "cc3m": "parts of speech, polarity, profanity; a word must occur twice, not 5 times in Wikipedia",
    "cc12m": "noun and determiner; a word must occur 4 times, not 20",
    "align": "its 100 million n-grams: here the most frequent 20,000 of the set",
}
HEAD = """
recipe: {name}
pool: {pool}
shard_size: 2000
source: {{path: {source}, url: null}}
ingest: {{resize: none}}
columns:
  - language_cld3
  - caption_rules
  - vocabulary: {{counts: {counts}, lower: true}}
  - ngram_rarity: {{vocabulary: 20000}}
  - key_counts: {{by: text, distinct: sha256}}
filters:
"""


def measure(quick: bool) -> dict[str, Bar]:
    counts = vocabulary(fresh("text-kept-words"))
    kept = {name: of_set(name, counts, 1500 if quick else None) for name in SETS}
    bars: dict[str, Bar] = {}
    print(f"\n{'text rules of':<20}" + "".join(f"{name:>10}" for name in SETS) + "   left out, or another")
    for recipe in RECIPES:
        shares = [kept[name][recipe] for name in SETS]
        print(f"{recipe:<20}" + "".join(f"{share:>10.1%}" for share in shares) + f"   {LEFT_OUT.get(recipe, '')}")
        bars |= {f"kept_{recipe}_{name}": bar(round(s, 4), None, None) for name, s in zip(SETS, shares, strict=True)}
    first = [r for r in RECIPES if r != "cc3m"]  # its captions are in lower case, which its own rule of capitals drops
    more = all(kept["cc3m"][r] > kept["laion"][r] for r in first)
    return bars | {"text_rules_keep_more_of_cc3m": bar(more, "all but cc3m", more)}


def vocabulary(folder: Path) -> Path:
    """Words of all English captions at hand, in lower case, with their counts."""
    captions = [pq.read_table(SHARED / "text" / file, columns=[column]).column(0) for file, column in SETS.values()]
    captions.append(pq.read_table(SHARED / "text" / "multi30k_en_de_fr_cs.parquet", columns=["en"]).column(0))
    for file in sorted(SHARED.glob("images/pairs_flickr*")):
        captions.append(pc.list_flatten(pq.read_table(file, columns=["captions"]).column(0)))
    said = Counter(w for column in captions for t in column.to_pylist() if t for w in tokens(t.lower(), "words"))
    print(f"vocabulary: {len(said):,} words of {sum(map(len, captions)):,} captions")
    (folder / "counts.tsv").write_text("".join(f"{word}\t{n}\n" for word, n in sorted(said.items())))
    return folder / "counts.tsv"


def of_set(name: str, counts: Path, rows: int | None) -> dict[str, float]:
    """Share that each recipe keeps of one set; says which filter dropped first."""
    folder = fresh(f"text-kept-{name}")
    source, total = made(folder, *SETS[name], rows)
    found = {}
    for recipe, filters in RECIPES.items():
        path = folder / f"{recipe}.yaml"
        path.write_text(HEAD.format(name=recipe, pool=folder / "pool", source=source, counts=counts) + filters)
        with Progress(None, "bench", io.StringIO()) as progress:
            outcome = Job(load_recipe(str(path)), "inline").run(progress)
        found[recipe] = outcome.kept / total
        print(f"{name}, {recipe}: " + ", ".join(f"{step} drops {n:,}" for step, n in outcome.dropped.items() if n))
    return found


def made(folder: Path, file: str, column: str, rows: int | None) -> tuple[Path, int]:
    texts = pq.read_table(SHARED / "text" / file, columns=[column]).column(0).to_pylist()[:rows]
    noise = np.random.default_rng(0).integers(0, 256, (len(texts), 12, 12, 3), np.uint8)
    images = [cv2.imencode(".png", picture)[1].tobytes() for picture in noise]
    pq.write_table(pa.table({"image": pa.array(images, pa.binary()), "text": texts}), folder / "texts.parquet")
    return folder / "texts.parquet", len(texts)
