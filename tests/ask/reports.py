"""A report's findings by hand, with everything that a page can show; and a pool with hostile words."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

from curate.ask.funnel import Funnel, Step
from curate.ask.pictures import Shown
from curate.ask.report.found import (
    Counts,
    Downloads,
    FilterFound,
    Found,
    Group,
    GroupSizes,
    Histogram,
    HostRow,
    InPool,
    NearPairs,
    Threshold,
    Timing,
    UidList,
)

HOSTILE = (
    "<script>document.title='owned'</script>",
    '"><img src=x onerror="document.title=\'owned\'">',
    "</figcaption></figure></main><style>body{display:none}</style>",
    "&lt;b&gt; &amp; &#x3c;",
    "\u202egnp.exe\u202c right to left \x1b[2J \x00",
    "x" * 10_000,
    "صورة لكلب يركض",
    "' onmouseover='document.title=1",
)


def webp(seed: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (176, 120 + seed % 50), (seed * 37 % 256, seed * 91 % 256, 120)).save(out, "WEBP")
    return out.getvalue()


def shown(n: int, reason: str | None = None, **more: Any) -> Shown:
    facts: dict[str, Any] = {
        "thumbnail": webp(n),
        "text": HOSTILE[n % len(HOSTILE)],
        "url": f"http://x.test/{n}?a=<b>&c='",
        "width": 300,
        "height": 200,
    }
    return Shown(n.to_bytes(16, "big"), 0, n, reason, **(facts | more))


def plot(**more: Any) -> Histogram:
    base: dict[str, Any] = {
        "title": "shorter side <px>",
        "edges": tuple(range(0, 410, 10)),
        "kept": tuple(max(0, 100 - abs(25 - i) * 8) for i in range(40)),
        "lost": tuple(30 if i < 10 else 0 for i in range(40)),
        "other": tuple(5 for _ in range(40)),
        "thresholds": (Threshold(100.0, "above", "min_side 100"), Threshold(350.0, "below", "max_side 350")),
        "below": 3,
        "above": 7,
        "missing": 2,
    }
    return Histogram(**(base | more))


def found(rows: int = 1000, **more: Any) -> Found:
    """A pick of two filters; the second drops duplicates."""
    steps = [
        Step(1, "size", "image_size", "verdicts/image_size@1", "row", rows, 300, 300, rows - 300, {"min_side": 300}),
        Step(
            2,
            "near",
            "keep_one",
            "verdicts/keep_one@2",
            "survivors",
            rows - 300,
            100,
            100,
            rows - 400,
            {"duplicate": 100},
        ),
    ]
    pick = Funnel("mine <b>", "picks/mine@0123456789ab", rows, rows - 400, rows - 400, steps)
    keeper = shown(50, text="the one that stays")
    lost = [shown(i, "duplicate", dup_of=keeper.uid, score="distance 2 (4 at most)") for i in range(20, 24)]
    near = [
        shown(30, "min_side", score="shorter side 99 (min_side 100)"),
        shown(31, score="shorter side 100 (min_side 100)"),
    ]
    spread = Histogram(
        "bits between two hashes", tuple(range(10)), (0,) * 6 + (3, 0, 1), (0, 9, 7, 2, 1, 0, 0, 0, 0), (0,) * 9,
        (Threshold(5.0, "above", "distance 4"),), words=("pairs that both stay", "pairs of which one goes", ""),
    )  # fmt: skip
    pairs = NearPairs(
        "near", ((lost[0], keeper, "4 bits apart"), (lost[1], None, "3 bits apart")),
        ((shown(70), shown(71), "6 bits apart"),), spread, 1000, True,
    )  # fmt: skip
    whole: dict[str, Any] = {
        "pick": pick,
        "about": {
            "recipe": "mine", "yaml": "recipe: mine # </pre><script>\n", "shards": [0, 1], "version": "1",
            "generation": "g", "columns": {"lang": {"folder": "columns/language@1", "field": "lang"}},
            "sources": {"web": {"field": "text"}},
        },
        "filters": {
            "size": FilterFound(
                (plot(), plot(title="aspect", edges=tuple(10 ** (i / 10) for i in range(41)), log=True, thresholds=())),
                [shown(i, "min_side", score="shorter side 50") for i in range(8)],
                [shown(i) for i in range(8, 16)], near,
            ),
            "near": FilterFound((), lost, [shown(40)], []),
        },
        "keepers": {keeper.uid: keeper},
        "groups": [Group("near", 1234, keeper, tuple(lost)), Group("near", 2, None, (lost[0],))],
        "group_sizes": [GroupSizes("near", ((2, 40), (3, 5), (7, 2), (1234, 1)))],
        "near_pairs": [pairs],
        "in_pool": [InPool("near", 48, 1234, 17, 12345, ((2, 40), (3, 5), (7, 2), (1234, 1)), ((2, 12000), (4, 345)))],
        "downloads": Downloads(
            (("ok", 900), ("http_4xx", 80), ("<b>new</b>", 20)), (HostRow("a<b>.test", 100, 60, "http_4xx", 40),), 12,
            ("90.0 % of 1,000 URLs came: <i>nothing</i> unusual.",),
        ),
        "counts": [Counts("language", (("en", 700, 500), ("<zh>", 300, 100), ("3 others", 9, 0)))],
        "timings": [Timing("ingest", 2, 10, 1000, 123.4, 60.0, 1), Timing("pick", 1, 10, 0, 0.5)],
        "uid_lists": [
            UidList("size", "min_side", 3, tuple(f"{i:032x}" for i in range(3)), "SELECT 1"),
            UidList("near", "duplicate", 10**6, None, "SELECT uid FROM picks WHERE reason = 'duplicate'"),
        ],
        "final": [shown(60), shown(61, text=None), shown(62, thumbnail=None, why_not="purged")],
    }  # fmt: skip
    return Found(**(whole | more))
