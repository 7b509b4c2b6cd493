"""Lists of entries against the rules written out in plain Python, over small dumps."""

from __future__ import annotations

import gzip
import json
import math
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import curate.metadata.parts as parts_module
from curate.cli_metadata import app
from curate.errors import UserError
from curate.metadata.build import Rules, Sources, build, fit, merge
from curate.metadata.sources import lemmas, synsets
from curate.metadata.words import SPACES, counted, tokenizer_for
from stages.wordnet_index import dict_folder
from tests.stages.wordnet_parts import _nltk_copy, nltk_reader, real_wordnet, write_wordnet

LINES = [
    "The big dog sat. The big dog ran, the dog <b>slept</b>",
    "hot dog hot dog (hot dogs)",
    "the end",
]
NUMBERS = [str(n) for n in range(100)]


def quiet(_: str) -> None: ...


def plain_counts(lines: list[str]) -> tuple[Counter[str], Counter[tuple[str, str]]]:
    """Token by token, as the published code goes, but for the ends of lines."""
    words: Counter[str] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    for line in lines:
        before = None
        for token in (
            line.replace("<b>", "")
            .replace("</b>", "")
            .replace(".", " . ")
            .replace(",", " , ")
            .replace("(", " ( ")
            .replace(")", " ) ")
            .split()
        ):
            if token in ".,()":
                before = None
                continue
            words[token] += 1
            if before is not None:
                pairs[before, token] += 1
            before = token
    return words, pairs


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "wiki.txt"
    path.write_text("\n".join(LINES))
    return path


@pytest.fixture
def views(tmp_path: Path) -> Path:
    folder = tmp_path / "pageviews"
    folder.mkdir()
    hours = [
        'en Dog 60 0\nen Hot_dog 55 0\nen Talk:Dog 900 0\nen Rare 49 0\n"" x 1 0\n'
        "de Hund 70 0\nde.m Hund 1 0\nde Katze 1 0\n",
        "en Dog 50 0\nen Hot_dog 10 0\nen.m Phone 900 0\nde Hund 0 0\nde Maus 2 0\nde.b Buch 9 0\n",
    ]
    for number, hour in enumerate(hours):
        (folder / f"pageviews-{number}.gz").write_bytes(gzip.compress(hour.encode()))
    return folder


@pytest.fixture
def wordnet(tmp_path: Path) -> Path:
    folder = tmp_path / "dict"
    folder.mkdir()
    names = ["noun", "verb", "adj", "adv"]
    for name in names:
        (folder / f"index.{name}").write_text("")
        (folder / f"{name}.exc").write_text("")
        (folder / f"data.{name}").write_text("  1 licence of words\n")
    (folder / "data.noun").write_text(
        "  1 licence\n00001740 03 n 02 Hot_Dog 0 frank 0 000 | a\n"
        "00002000 03 n 01 .22 0 000 | b\n00003000 03 n 01 a.d. 0 000 | c\n"
    )
    (folder / "data.adj").write_text("  1 licence\n00001740 00 s 01 galore(ip) 0 000 | d\n")
    return folder


def test_words_and_pairs_are_counted_as_published() -> None:
    words, pairs = counted("\n".join(LINES), SPACES)
    assert (words, pairs) == plain_counts(LINES)
    words, pairs = counted("犬dog猫 ¿dog, ไก่", SPACES)
    assert words == Counter(["犬", "dog", "猫", "dog", "ไ", "ก", "่"])
    assert pairs == Counter([("犬", "dog"), ("dog", "猫"), ("ไ", "ก"), ("ก", "่")])


def test_own_tokenizer_and_its_torn_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cutter_of_a_test.py").write_text("def cut(text): return text.split('|')")
    monkeypatch.syspath_prepend(tmp_path)
    words, pairs = counted("東京|タワー|。|（東|京）|は\n京", "cutter_of_a_test:cut")
    assert words == Counter(["東京", "タワー", "は", "京"])
    assert pairs == Counter([("東京", "タワー")])
    assert tokenizer_for("ja", "cutter_of_a_test:cut") == "cutter_of_a_test:cut"
    with pytest.raises(ValueError, match="not parted by spaces; give --tokenizer"):
        tokenizer_for("ja", None)
    with pytest.raises(ValueError, match="expected package"):
        tokenizer_for("ja", "cutter_of_a_test:nothing")


def test_names_of_synsets_end_at_their_first_point(wordnet: Path) -> None:
    assert list(synsets(wordnet)) == ["hot dog", "", "a", "galore"]


def named(reader: Any, *parts: str) -> Counter[str]:
    found = [s.name().split(".")[0].replace("_", " ") for part in parts for s in reader.all_synsets(part)]
    return Counter(found)


def test_names_of_synsets_are_those_of_nltk(tmp_path: Path) -> None:
    write_wordnet(tmp_path)
    assert Counter(synsets(tmp_path)) == named(nltk_reader(tmp_path), "n", "v", "a", "r")


def test_wordnet_and_the_numbers_are_as_many_as_published(tmp_path: Path) -> None:
    """500,000 less the published sizes of the other sources: 251,465 words, 100,646 pairs, 61,235 titles."""
    try:
        folder = dict_folder(None)
    except ValueError as e:
        pytest.skip(f"the real WordNet is not here: {e}")
    found = build(Sources(wordnet=str(folder)), Rules(), tmp_path / "m.json", quiet)
    assert len(found) == 500_000 - 251_465 - 100_646 - 61_235


@pytest.mark.slow
def test_names_of_the_real_synsets_are_those_of_nltk(tmp_path: Path) -> None:
    folder, _ = real_wordnet()
    ours = Counter(synsets(folder))
    assert ours == named(nltk_reader(_nltk_copy(folder, tmp_path / "copy")), "n", "v", "a", "r")
    assert {"dog", "united states"} <= set(ours)


def test_english_has_the_thresholds_of_the_first_version(
    text: Path, views: Path, wordnet: Path, tmp_path: Path
) -> None:
    words, pairs = plain_counts(LINES)
    n = sum(words.values())
    pmi = {p: math.log2(c * n) - math.log2(words[p[0]] * words[p[1]]) for p, c in pairs.items()}
    out = tmp_path / "metadata.json"
    rules = Rules(min_count=2, min_pmi=3.0)
    found = build(Sources([str(text)], [str(views)], str(wordnet)), rules, out, quiet)
    often = [w for w, c in sorted(words.items(), key=lambda wc: (-wc[1], wc[0])) if c >= 2]
    bound = [" ".join(p) for p, v in sorted(pmi.items(), key=lambda pv: (-round(pv[1], 9), pv[0])) if v >= 3.0]
    assert bound
    assert found == merge([NUMBERS, ["hot dog", "a", "galore"], often, bound, ["Dog"]])  # Hot_dog has 55 views
    assert json.loads(out.read_text()) == found
    assert not out.with_name("metadata.json.work").exists()


def test_entries_end_where_the_list_is_full(text: Path, wordnet: Path, tmp_path: Path) -> None:
    found = build(
        Sources([str(text)], wordnet=str(wordnet)), Rules(min_count=1, entries=104), tmp_path / "m.json", quiet
    )
    assert found[100:] == ["hot dog", "a", "galore", "dog"]


def test_english_has_a_most_of_each(views: Path, tmp_path: Path) -> None:
    """Of words that stand together only, all pairs pass the bound: without a most of them no title would come in."""
    often = ["lone wolf"] * 3 + ["quiet storm"] * 2
    (tmp_path / "en.txt").write_text("\n".join([*often, *(f"a{i} b{i}" for i in range(50)), "x y", "x y", "z y"]))
    sources = Sources([str(tmp_path / "en.txt")], [str(views)])
    rules = Rules(min_count=2, min_views=1, min_pmi=3.0, entries=200, most_words=3, most_pairs=4, most_titles=1)
    found = build(sources, rules, tmp_path / "m.json", quiet)
    # N is 116: pairs that stand once, and only together, have log2 116; those that stand twice, one less
    assert found[100:] == ["lone", "wolf", "y", "a0 b0", "a1 b1", "a10 b10", "a11 b11", "Dog"]
    assert build(sources, replace(rules, most_titles=9), tmp_path / "m.json", quiet)[-2:] == ["Dog", "Hot dog"]
    full = build(sources, replace(rules, entries=106), tmp_path / "m.json", quiet)
    assert full == found[:106]


def test_of_pairs_that_are_as_closely_tied_the_frequent_come_first(tmp_path: Path) -> None:
    """log2(1 N / (1 2)) and log2(2 N / (2 2)) are the same."""
    (tmp_path / "en.txt").write_text("a c\n" + "b d\nb d\nd\nd\n" + "c\n")
    rules = Rules(min_count=99, min_pmi=0.5, most_pairs=1)
    assert build(Sources([str(tmp_path / "en.txt")]), rules, tmp_path / "m.json", quiet)[100:] == ["a c"]
    (tmp_path / "en.txt").write_text("a c\nc\n" + "b d\nb d\n")
    assert build(Sources([str(tmp_path / "en.txt")]), rules, tmp_path / "m.json", quiet)[100:] == ["b d"]


def test_a_file_that_is_given_twice_counts_once(text: Path, views: Path, tmp_path: Path) -> None:
    rules = Rules(min_count=2, min_views=100, min_pmi=3.0)
    once = build(Sources([str(text)], [str(views)]), rules, tmp_path / "a.json", quiet)
    (tmp_path / "again.txt").symlink_to(text)
    twice = Sources([str(text), str(tmp_path / "again.txt")], [str(views), str(views / "pageviews-0.gz")])
    assert build(twice, rules, tmp_path / "b.json", quiet) == once
    parts = parts_module.Parts(tmp_path / "parts")
    assert [parts.make("x", ["n"], lambda: [pa.table({"n": [7]})]) for _ in range(2)] == [True, False]
    assert parts.connection("1GB").execute("SELECT sum(n) FROM n").fetchone() == (7,)


@pytest.mark.parametrize("piece", ["<", "&lt;", "<a", "&lt;<", "&lt;b &gt"])
def test_tags_that_never_end_cost_no_more_than_others(piece: str) -> None:
    def seconds(text: str) -> float:
        began = time.process_time()
        counted(text, SPACES)
        return time.process_time() - began

    pieces = 120_000 // len(piece)
    assert seconds(piece * pieces) < 10 * seconds("word " * 24_000) + 1


def test_tags_are_taken_out() -> None:
    words, _ = counted("a <b>c</b> &lt;ref name=x&gt; d < e\nf > g", SPACES)
    assert words == Counter(["a", "c", "d", "e", "f", "g"])


def test_other_languages_have_shares_and_caps(views: Path, tmp_path: Path) -> None:
    words = [w for i in range(20) for w in [f"wort{i:02d}"] * (40 - i)]
    (tmp_path / "de.txt").write_text("\n".join(words) + "\nfern seher\n")
    (tmp_path / "wn.tab").write_text(
        "# x\n0-n\tdeu:lemma\tHund_Katze\n0-n\tdeu:def\t0\tTier\n1-n\tlemma\t!!\n1-n\tlemma\twort00\n"
    )
    sources = Sources([str(tmp_path / "de.txt")], [str(views)], str(tmp_path / "wn.tab"))
    rules = Rules(language="de", min_pmi=8)
    found = build(sources, rules, tmp_path / "de.json", quiet)
    # 22 words: two new ones, for wort00 is there; 76 % of Hund 71, Maus 2, Katze 1 are two
    assert found[100:] == ["Hund Katze", "wort00", "wort01", "wort02", "fern seher", "Hund", "Maus"]
    assert not fit("x" * 257, rules)
    assert fit("x" * 257, Rules())
    assert not fit("?!", rules)
    assert fit("?!", Rules())
    assert not fit("?", Rules())


def test_blocks_and_resuming_change_nothing(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = Rules(min_count=1, min_pmi=2)
    whole = build(Sources([str(text)]), rules, tmp_path / "a.json", quiet)
    monkeypatch.setattr(parts_module, "BLOCK", 10)  # a line a block
    calls = []

    def fails(text: str, tokenizer: str) -> tuple[Counter[str], Counter[tuple[str, str]]]:
        calls.append(text)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return counted(text, tokenizer)

    monkeypatch.setattr("curate.metadata.sources.counted", fails)
    out = tmp_path / "b.json"
    stale = out.with_name("b.json.work") / "words"
    with pytest.raises(KeyboardInterrupt):
        build(Sources([str(text)]), rules, out, quiet)
    assert len(list(stale.glob("*.parquet"))) == 2
    pq.write_table(pq.read_table(next(stale.glob("*.parquet"))), stale / "of-another-text.parquet")
    assert build(Sources([str(text)]), rules, out, quiet) == whole
    assert len(calls) == 4


def test_mutual_information_is_that_of_nltk(text: Path, tmp_path: Path) -> None:
    nltk = pytest.importorskip("nltk")
    words, pairs = plain_counts(LINES)
    finder = nltk.collocations.BigramCollocationFinder(nltk.FreqDist(words), nltk.FreqDist(pairs))
    scored = finder.score_ngrams(nltk.collocations.BigramAssocMeasures().pmi)
    for bound in (1.5, 3.2):
        found = build(Sources([str(text)]), Rules(min_count=99, min_pmi=bound), tmp_path / "m.json", quiet)
        assert set(found[100:]) == {" ".join(p) for p, v in scored if v >= bound}


def test_what_is_missing_is_said_before_anything_is_counted(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.json"
    for sources, words in [
        (Sources(), "nothing to make a list of"),
        (Sources([str(text), str(tmp_path / "gone.txt")]), r"gone\.txt: no such file"),
        (Sources([str(text)], wordnet=str(tmp_path)), "no WordNet"),
    ]:
        with pytest.raises(ValueError, match=words):
            build(sources, Rules(), out, quiet)
    with pytest.raises(ValueError, match="Open Multilingual Wordnet"):
        build(Sources([str(text)], wordnet=str(tmp_path)), Rules(language="de"), out, quiet)
    with pytest.raises(ValueError, match="no lines of synset"):
        list(lemmas(text))
    assert not out.with_name("m.json.work").exists()


def test_commands(text: Path, views: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    done = runner.invoke(app, ["build", "--out", str(tmp_path / "a.json"), "--titles", str(views), "--min-views", "50"])
    assert done.exit_code == 0, done.output
    assert "titles: 2 new entries, 102 together" in done.output
    (tmp_path / "b.json").write_text('["Dog", "cat"]')
    done = runner.invoke(
        app, ["merge", str(tmp_path / "b.json"), str(tmp_path / "a.json"), "--out", str(tmp_path / "c.json")]
    )
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "c.json").read_text()) == ["Dog", "cat", *NUMBERS, "Hot dog"]
    gone = runner.invoke(app, ["merge", str(tmp_path / "gone.json"), "--out", str(tmp_path / "c.json")])
    assert isinstance(gone.exception, UserError)
    gone = runner.invoke(app, ["build", "--out", str(tmp_path / "a.json"), "--wikipedia", str(tmp_path / "gone")])
    assert isinstance(gone.exception, UserError)
