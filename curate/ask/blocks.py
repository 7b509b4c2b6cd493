"""A small picture in the characters of a terminal: two pixels a cell, one above the other.

print("\\n".join(blocks(stored_bytes)))
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from itertools import zip_longest
from typing import TextIO

SIDE = 40  # columns of the terminal at most, for two pixels of height each
UPPER = "\u2580"  # the upper half of a cell, in the foreground colour


def can_show(stream: TextIO) -> bool:
    """Is this a terminal with colours whose user wants them (https://no-color.org)?"""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def blocks(data: bytes, side: int = SIDE) -> list[str]:
    """Lines of a terminal that show an encoded picture, or one that says why it cannot be shown."""
    import numpy as np
    from PIL.Image import Resampling

    from curate.ask.output import visible
    from stages.decode import DecodeError, open_image

    columns = min(side, shutil.get_terminal_size().columns - 4)
    try:
        image = open_image(data)
    except DecodeError as e:
        return [f"  cannot be shown: {visible(str(e))}"]
    image.thumbnail((columns, columns), Resampling.BOX, reducing_gap=2.0)
    rows = np.asarray(image.convert("RGB")).tolist()
    colour = _true if os.environ.get("COLORTERM", "") in ("truecolor", "24bit") else _of_256
    return [_line(top, low, colour) for top, low in zip_longest(rows[::2], rows[1::2])]


def _line(top: list[list[int]], low: list[list[int]] | None, colour: Callable[[list[int]], str]) -> str:
    """Two rows of RGB pixels as one line; low None: the picture ends in the middle of the cells."""
    cells, before = [], ""
    for x, upper in enumerate(top):
        style = f"\x1b[38;{colour(upper)}m" + (f"\x1b[48;{colour(low[x])}m" if low else "\x1b[49m")
        cells.append(("" if style == before else style) + UPPER)
        before = style
    return f"  {''.join(cells)}\x1b[0m"


def _true(rgb: list[int]) -> str:
    return "2;{};{};{}".format(*rgb)


def _of_256(rgb: list[int]) -> str:
    """The nearest of the 6 x 6 x 6 colours that every colour terminal has."""
    red, green, blue = (round(v * 5 / 255) for v in rgb)
    return f"5;{16 + 36 * red + 6 * green + blue}"
