"""How often a language is told right, by detector, language and length, on sentences whose language is known.

Truth: text/langid.parquet, 75 languages of lingua's test data (sentences, pairs of words, single words) and 113 of
Tatoeba's. Languages that a detector has no name for count as wrong: that is what a pool would see. Serbian, Croatian
and Bosnian, and Norwegian's two kinds, are counted as the names they are.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from common import SHARED, Bar, at_least, at_most, bar

from stages.base import Batch
from stages.language import Language
from stages.language_cld3 import LanguageCld3

MAIN = ("ar", "cs", "de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "ru", "tr", "vi", "zh")
KINDS = ("sentences", "word-pairs", "single-words")
LENGTHS = (0, 10, 20, 40, 80, 10_000)
ISO = """
    afr:af amh:am ara:ar ast:ast aze:az bel:be ben:bn bos:bs bre:br bul:bg cat:ca cbk:cbk ceb:ceb ces:cs
    cmn:zh cor:kw cym:cy dan:da deu:de dsb:dsb ell:el eng:en epo:eo est:et eus:eu fin:fi fra:fr fry:fy
    gla:gd gle:ga glg:gl gsw:als heb:he hin:hi hrv:hr hsb:hsb hun:hu hye:hy ido:io ile:ie ina:ia ind:id
    isl:is ita:it jav:jv jpn:ja kat:ka kaz:kk khm:km kor:ko kur:ku lat:la lit:lt lvs:lv mal:ml mar:mr
    mhr:mhr mkd:mk mon:mn nds:nds nld:nl nno:nn nob:no oci:oc pam:pam pes:fa pms:pms pol:pl por:pt ron:ro
    rus:ru slk:sk slv:sl spa:es sqi:sq srp:sr swe:sv swh:sw tam:ta tat:tt tel:te tgl:tl tha:th tuk:tk tur:tr
    uig:ug ukr:uk urd:ur uzb:uz vie:vi war:war wuu:wuu xho:xh yid:yi yue:yue zsm:ms nb:no
"""
TRUTH = dict(pair.split(":") for pair in ISO.split())
"""Tatoeba's names of three letters, and lingua's nb -> names as lid.176 has them; others are the same."""


def measure(quick: bool) -> dict[str, Bar]:
    table = pq.read_table(SHARED / "text" / "langid.parquet")
    table = table.take(np.arange(0, table.num_rows, 8 if quick else 1))
    lang = np.array([TRUTH.get(name, name) for name in table.column("lang").to_pylist()])
    source, kind = (np.array(table.column(n).to_pylist()) for n in ("source", "kind"))
    length = np.array([len(t) for t in table.column("text").to_pylist()])
    bars: dict[str, Bar] = {}
    for name, stage in detectors().items():
        found, pace = asked(stage, table.column("text").to_pylist())
        right = found == lang
        print(f"\n{name}: {pace:,.0f} texts a second on one core")
        by_kind(right, lang, source, kind)
        by_length(right, found, lang, length)
        worst(right, lang, (source == "lingua") & (kind == "sentences"))
        bars |= bars_of(name, right, found, lang, (source == "lingua") & (kind == "sentences"), kind)
    return bars


def detectors() -> dict[str, Language | LanguageCld3]:
    found: dict[str, Language | LanguageCld3] = {"lid176ftz": Language()}
    if find_spec("gcld3") is None:
        print("no package gcld3: cld3 is not measured")
        return found
    iso = {"iw": "he", "jv": "jw", "fil": "tl"}  # names of cld3's that are others elsewhere
    return found | {"cld3": LanguageCld3(labels=iso)}


def asked(stage: Language | LanguageCld3, texts: Sequence[str]) -> tuple[np.ndarray, float]:
    """(answers, "" where there is none; texts a CPU-second)"""
    stage.open()
    batch = Batch.of(pa.table({"text": pa.array(texts, pa.string())}))
    began = time.process_time()
    answers = stage.run(batch).column(0).to_pylist()
    return np.array([a or "" for a in answers]), len(texts) / (time.process_time() - began)


def mean_of_languages(right: np.ndarray, lang: np.ndarray, among: np.ndarray) -> float:
    """Accuracy, every language counting the same."""
    return float(np.mean([right[among & (lang == name)].mean() for name in np.unique(lang[among])]))


def by_kind(right: np.ndarray, lang: np.ndarray, source: np.ndarray, kind: np.ndarray) -> None:
    main = np.isin(lang, MAIN)
    print(
        f"{'texts':<24} {'languages':>10} {'accuracy':>9} {'of ' + str(len(MAIN)) + ' large ones':>18} {'English':>8}"
    )
    for name in ("lingua", "tatoeba"):
        for one in KINDS:
            among = (source == name) & (kind == one)
            if among.any():
                shares = (among, among & main, among & (lang == "en"))
                values = [mean_of_languages(right, lang, some) for some in shares]
                n = len(np.unique(lang[among]))
                print(f"{name + ' ' + one:<24} {n:>10} {values[0]:>9.3f} {values[1]:>18.3f} {values[2]:>8.3f}")


def by_length(right: np.ndarray, found: np.ndarray, lang: np.ndarray, length: np.ndarray) -> None:
    """With what an English filter would do: how much English it keeps, and how much else."""
    print(f"{'characters':<24} {'texts':>10} {'accuracy':>9} {'English kept':>18} {'others kept as English':>24}")
    for low, high in pairwise(LENGTHS):
        among = (length >= low) & (length < high)
        english = lang == "en"
        if (among & english).any():
            kept, strays = (np.mean(found[among & some] == "en") for some in (english, ~english))
            said = f"{low} to {high - 1}" if high < LENGTHS[-1] else f"{low} and more"
            print(f"{said:<24} {among.sum():>10,} {right[among].mean():>9.3f} {kept:>18.3f} {strays:>24.4f}")


def worst(right: np.ndarray, lang: np.ndarray, among: np.ndarray) -> None:
    shares = {str(name): right[among & (lang == name)].mean() for name in np.unique(lang[among])}
    low = sorted((share, name) for name, share in shares.items() if share < 0.8)
    print(f"{len(shares)} languages' sentences, below 0.8: " + ", ".join(f"{n} {s:.2f}" for s, n in low))


def bars_of(
    name: str, right: np.ndarray, found: np.ndarray, lang: np.ndarray, sentences: np.ndarray, kind: np.ndarray
) -> dict[str, Bar]:
    main, english = np.isin(lang, MAIN), lang == "en"
    strays, large = (float(np.mean(found[some & ~english] == "en")) for some in (sentences, sentences & main))
    one_word = main & (kind == "single-words")
    return {
        f"lid_{name}_sentences_of_16": at_least(mean_of_languages(right, lang, sentences & main), 0.95),
        f"lid_{name}_english_kept": at_least(float(np.mean(found[sentences & english] == "en")), 0.98),
        f"lid_{name}_of_16_kept_as_english": at_most(large, 0.02, 4),
        f"lid_{name}_of_75_kept_as_english": bar(round(strays, 4), None, None),
        f"lid_{name}_single_words_of_16": bar(round(mean_of_languages(right, lang, one_word), 3), None, None),
    }
