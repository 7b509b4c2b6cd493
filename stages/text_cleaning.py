"""What is taken out of texts of the web, kind by kind: tags, template holes, placeholders, mediums, hashtags, phrases.

    without_markup("<b>A dog</b> &amp; a [caption id=3]cat[/caption] {{name}}")    # "A dog & a cat"
    without_medium("Stock photo of a dog, royalty free image")                      # "a dog"

Every function returns its text as it was where it finds nothing, and takes time that grows with the text's length only.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from functools import cache

# ---------------------------------------------------------------------------------------------- markup

_SHORTCODES = r"(?:caption|gallery|img|url|embed|playlist|b|i|u|vc_\w+|et_pb_\w+)(?:[\s=][^\[\]]*)?"
_VALUED = r"(?:size|color|font|quote|video|audio|link|code)=[^\[\]]*"
_HIDDEN = re.compile(r"<(script|style)\b[^<>]*>[^<]*</\1\s*>", re.IGNORECASE)
_TAG = re.compile(r"</?[A-Za-z][^<>]*>|<![A-Za-z][^<>]*>|<\?[^<>]*\?>")
_HOLES = re.compile(
    r"\{\{[^{}]*\}\}|\{%[^{}]*%\}|\$\{[^{}]*\}|<%[^<>]*%>|<\|[^<>|]*\|>|\[\[[^\[\]]*\]\]|%%\w+%%|"
    rf"\[/?(?:{_SHORTCODES}|{_VALUED})/?\]",
    re.IGNORECASE,
)

_GAP = "\0"
_BETWEEN_WORDS = re.compile(r"(?<=[^\s<])\0+(?=[^\s<>])")


def without_markup(text: str) -> str:
    """Without tags of HTML (and what scripts and styles hold), comments, holes of templates, shortcodes of WordPress
    and BBCode, and special tokens of language models; entities are read. "3 < 4" is no tag."""
    text = html.unescape(text).replace(_GAP, " ")
    text = _without_comments(text)
    for pattern in (_HIDDEN, _HOLES, _TAG):
        text = pattern.sub(_GAP, text)
    return _BETWEEN_WORDS.sub(" ", text).replace(_GAP, "")  # so that "<<b>b>" becomes "<b>", which is looked at again


def _without_comments(text: str) -> str:
    """By search, since a regular expression looks to the end again for each comment that none ends."""
    kept, place = [], 0
    while (begin := text.find("<!--", place)) >= 0 and (end := text.find("-->", begin + 4)) >= 0:
        kept.append(text[place:begin])
        place = end + 3
    return _GAP.join([*kept, text[place:]])


# ---------------------------------------------------------------------------------------------- mediums

_MEDIUM = (
    "photo(?:graph)?s?|picture|pic|image|illustration|drawing|painting|sketch|vector|clip ?art|cartoon|rendering|"
    "3d render|render|screenshot|snapshot|shot|footage|video|wallpaper|artwork|graphic|icon|logo|portrait|poster|scan"
)
_QUALITY = (
    "stock|royalty[- ]free|free|vintage|old|black[- ]and[- ]white|colou?r|close[- ]?up|high[- ]quality|high[- ]res"
    "olution|hd|4k|aerial|digital|detailed|blurry|cropped|abstract|editorial|professional|3d|vector|watercolou?r"
)
_LEAD = re.compile(
    rf"^\W*(?:(?:this|here|there|it)\s+is\s+)?(?:(?:an?|the|this|my)\s+)?(?:(?:{_QUALITY})\s+){{0,4}}"
    rf"(?:{_MEDIUM})s?\s+(?:of|showing|shows|depicting|depicts|featuring|with)\s+",
    re.IGNORECASE,
)
_LABEL = re.compile(
    rf"^\W*(?:(?:{_QUALITY})\s+){{0,4}}(?:(?:stock|royalty[- ]free)\s+)?(?:{_MEDIUM})s?\s*(?:[:|–—]|\s-)\s+",
    re.IGNORECASE,
)
_TRAIL = re.compile(
    rf"(?:[\s,;:|(\[–—-]|\.(?=\s)){{1,8}}(?:(?:stock|royalty[- ]free)\s+)(?:(?:{_QUALITY}|{_MEDIUM})s?[\s,]+){{0,6}}"
    rf"(?:{_MEDIUM})s?[\s.)\]]*$",
    re.IGNORECASE,
)

_ARTICLES = ("a", "an", "the", "this", "my")


def without_medium(text: str) -> str:
    """Without what names the picture in place of what it shows: "a photo of", "image:", ", stock vector" at the end.

    A text that is nothing else stays: "a stock photo".
    """
    for pattern in (_LEAD, _LABEL, _TRAIL):
        rest = pattern.sub("", text, count=1)
        text = rest if any(word not in _ARTICLES for word in re.findall(r"\w+", rest.lower())) else text
    return text


# ---------------------------------------------------------------------------------------------- hashtags, addresses

_HASHTAG = re.compile(r"(?<![\w&#])#(?=\w*[^\W\d_])(\w+)")
_ADDRESS = re.compile(
    r"(?:\bhttps?://|\bwww\.)[^\s<>\"]+|(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,4}", re.IGNORECASE
)
_FILE_NAME = re.compile(
    r"(?<![^\s(\[])[^\s()\[\]<>]{1,200}\.(?:jpe?g|png|gif|webp|bmp|tiff?|svg|avif)(?=[\s,;.)\]]|$)", re.IGNORECASE
)
_CAMERA = re.compile(r"\b(?:IMG|DSC[FN]?|PICT|DCIM|MVI|GOPR|WP)_?-?\d{3,}(?:_\d+)?\b")


def without_hashtags(text: str, words: bool) -> str:
    """Without hashtags; `words`: only their mark is taken, "#sunset" becomes "sunset". "#1" is none."""
    return _HASHTAG.sub(r"\1" if words else " ", text)


def without_addresses(text: str) -> str:
    """Without web and mail addresses."""
    return _ADDRESS.sub(" ", text)


def without_file_names(text: str) -> str:
    """Without names of image files and numbers that cameras give: "beach-2.JPG", "DSC_0123"."""
    return _CAMERA.sub(" ", _FILE_NAME.sub(" ", text))


# ---------------------------------------------------------------------------------------------- phrases


def without_phrases(text: str, phrases: Sequence[str], instead: str = " ") -> str:
    """Without whole phrases, upper or lower case, white space in them of any length."""
    return _any_of(tuple(phrases)).sub(lambda _: instead, text) if phrases else text


@cache
def _any_of(phrases: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(phrases, key=lambda phrase: (-len(phrase), phrase))
    return re.compile("|".join(_bounded(phrase) for phrase in longest_first), re.IGNORECASE)


def _bounded(phrase: str) -> str:
    words = r"\s+".join(re.escape(word) for word in phrase.split())
    before = r"(?<!\w)" if phrase.strip()[0].isalnum() else ""
    after = r"(?!\w)" if phrase.strip()[-1].isalnum() else ""
    return before + words + after


# ---------------------------------------------------------------------------------------------- what is left

_EMPTY = re.compile(r"\(\s*\)|\[\s*\]|\{\s*\}|\"\s*\"")
_LOOSE = re.compile(r"\s+(?=[,;.!?)\]](?:\s|$))|(?<=[(\[])\s+")
_MARKS = re.compile(r"[,;|–—-](?:\s*+[,;|–—-])++")  # looks at each character once: it fails at no run of them


def tidy(text: str) -> str:
    """After something was taken out: no empty brackets, loose or doubled commas, nor dashes and bars at the ends."""
    text = _EMPTY.sub(" ", text)
    text = _LOOSE.sub("", " ".join(text.split()))
    text = _MARKS.sub(_first, text)
    return text.strip(" \t,;:|·•–—-").lstrip(".)]")


def _first(run: re.Match[str]) -> str:
    """Of marks in a row the first; those that a word follows at once ("-5") stay with it."""
    whole, end = run[0], run.end()
    if end == len(run.string) or run.string[end].isspace():
        return whole[0]
    before, gap, of_word = whole.rpartition(" ")
    return whole if len(before) < 2 else f"{before[0]}{gap}{of_word}"
