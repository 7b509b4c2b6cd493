"""Words and pairs of words of running text, counted as MetaCLIP 2 counts them for its metadata.

    words, pairs = counted("The cat (a cat) sat.", SPACES)      # {"cat": 2, ...}, {("a", "cat"): 1, ...}

White space parts words; each punctuation mark, and each character of a script without spaces (Han, Thai, Lao, Burmese,
Khmer, Tibetan), is a token of its own. A pair does not reach over a mark or the end of a line. Tags are taken out.
Followed: `metaclip/metadata/build_ngram.py` of facebookresearch/MetaCLIP; there a pair may reach over a line's end. Its
tokenizers for languages without spaces are models of their own: name one as package.module:function, str -> words.
How the first version cut English into words is not published; it is taken to be the same.
"""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from stages.entry_matcher import MARKS, SPACELESS

Words = Counter[str]
Pairs = Counter[tuple[str, str]]
Cut = Callable[[str], Sequence[str]]

SPACES = "spaces"
NO_SPACES = frozenset({"bo", "dz", "ja", "km", "lo", "my", "ryu", "th", "zh", "zh_classical", "zh_yue"})
"""Wikipedia's codes of languages whose words are not parted by spaces."""

_OWN = MARKS + "¿"
_MARK = re.compile(f"[{_OWN}]")
_ONLY_MARKS = re.compile(f"[{_OWN}]*")
_TOKEN = re.compile(f"\n|[{SPACELESS}{_OWN}]|[^\\s{SPACELESS}{_OWN}]+")
_TAG = re.compile(r"&lt;(?:(?!&lt;)[^\n])*?&gt;|<[^<>\n]*>")
"""From the last beginning before an end: a search from every beginning takes for ever where no end comes."""
_BRACKETS = [("(", ")"), ("[", "]"), ("{", "}"), ("“", "”"), ("‘", "’"), ("（", "）")]
_BRACKETS += [("【", "】"), ("《", "》"), ("〈", "〉"), ("「", "」"), ("『", "』")]


def counted(text: str, tokenizer: str) -> tuple[Words, Pairs]:
    """How often each word and each pair of neighbours occurs.

    Args:
        tokenizer: SPACES, or package.module:function of one's own.
    """
    text = _TAG.sub("", text)
    if tokenizer == SPACES:
        tokens: Sequence[str] = _TOKEN.findall(text)
    else:
        tokens = list(_cut_lines(text, own_tokenizer(tokenizer)))
    words, pairs = Counter(tokens), Counter(pairwise(tokens))
    ends = {w for w in words if w == "\n" or only_marks(w) or (tokenizer != SPACES and torn(w))}
    for word in ends:
        del words[word]
    for pair in [p for p in pairs if p[0] in ends or p[1] in ends]:
        del pairs[pair]
    return words, pairs


def _cut_lines(text: str, cut: Cut) -> Iterable[str]:
    for line in text.splitlines():
        yield from (w for w in map(str.strip, cut(line)) if w)
        yield "\n"


def only_marks(word: str) -> bool:
    """Nothing but punctuation; so is nothing at all."""
    return _ONLY_MARKS.fullmatch(word) is not None


def torn(word: str) -> bool:
    """Does it begin with a mark, or has it one half of a pair of brackets?"""
    return _MARK.match(word) is not None or any((a in word) != (b in word) for a, b in _BRACKETS)


def own_tokenizer(path: str) -> Cut:
    """The function of package.module:function.

    Raises:
        ValueError: there is none.
    """
    module_name, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as e:
        raise ValueError(f"tokenizer {path!r}: {e}; expected package.module:function, a str to a list of words") from e
    if not callable(found):
        raise ValueError(f"tokenizer {path!r} is not a function")
    return found  # type: ignore[no-any-return]


def tokenizer_for(language: str, given: str | None) -> str:
    """The tokenizer to use.

    Raises:
        ValueError: words of that language are not parted by spaces, and none was given.
    """
    if given is None and language in NO_SPACES:
        raise ValueError(
            f"{language}: words are not parted by spaces; give --tokenizer package.module:function, which takes a str "
            "and gives back its words (MetaCLIP 2 used CKIP for zh, MeCab for ja, thai-segmenter for th)"
        )
    if given is not None and given != SPACES:
        own_tokenizer(given)
    return given or SPACES
