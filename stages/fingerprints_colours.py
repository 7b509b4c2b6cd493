"""The second signal beside a hash of shapes: what colours a picture has, and where, in 108 bytes.

    a, b = of_pixels(one), of_pixels(other)                 # uint8 (108,): 6 x 6 cells of RGB
    difference = np.abs(a.astype(int) - b).mean()           # 0 to 255; copies: below 3 or so

A perceptual hash sees neither colour nor what is small on a plain ground: of product shots on white, the same shoe in
black and in green are a few bits apart. The mean difference of plain thumbnails does not tell them either: most of both
is white. So here the cells follow the content. What differs from the ground (the median colour of the rim) has weight;
the lines between cells are put where they share that weight evenly, row by row and column by column; and the colour of
a cell is the mean of its pixels by the same weight. A small object so fills most cells, and an object that is moved by
a crop moves its cells along. Differences of colour count two thirds of those of light: of gray copies more then agree.
A gray copy of a coloured object is what the same object in gray looks like; no signature can hold them apart.

All sums are of integers and all else is element by element, so the bytes depend on no machine. The design and its
constants are this project's own; they were chosen on the product shots with which `python bench/dedup_photos.py`
measures what it tells apart.
"""

from __future__ import annotations

import numpy as np

GRID = 6
"""Cells a side."""
BYTES = 3 * GRID * GRID
VIEW = 32
"""Pixels a side of the view that is looked at: areas averaged, aspect not kept."""
FAINT = 36
"""Weight of content is d^2 / (d + FAINT), d the sum over channels of its difference from the ground: noise has none."""
EVEN = 0.2
"""Share of the weight that is spread evenly, so that every picture has its cells, one without content too."""
GROUND = 6
"""What the weight of a pixel is raised by inside a cell."""
COLOUR = 2 / 3


def of_pixels(rgb: np.ndarray) -> np.ndarray:
    """The signature, uint8 (108,), of uint8 (height, width, 3): rows of cells from the top, R G B each."""
    view = _view(rgb).astype(np.int64)
    far = np.abs(view - _ground(view)).sum(axis=2)
    content = far * far // (far + FAINT)
    rows, columns = _lines(content.sum(axis=1)), _lines(content.sum(axis=0))
    weight = (far + GROUND)[:, :, None]
    means = _cells(view * weight, rows, columns) / _cells(weight, rows, columns)
    light = means[:, :, :1] * 0.299 + means[:, :, 1:2] * 0.587 + means[:, :, 2:] * 0.114
    found = light + (means - light) * COLOUR
    return np.clip(np.rint(found), 0, 255).astype(np.uint8).reshape(-1)


def _view(rgb: np.ndarray) -> np.ndarray:
    """uint8 (32, 32, 3). Sides below 32 pixels have their pixels repeated first."""
    from stages.kernels import area, area_table

    height, width = rgb.shape[:2]
    rgb = rgb.repeat(-(-VIEW // height), axis=0) if height < VIEW else rgb
    rgb = rgb.repeat(-(-VIEW // width), axis=1) if width < VIEW else rgb
    out = np.empty((VIEW, VIEW, 3), np.uint8)
    area(np.ascontiguousarray(rgb), *area_table(rgb.shape[0], VIEW), *area_table(rgb.shape[1], VIEW), out)
    return out


def _ground(view: np.ndarray) -> np.ndarray:
    """The median colour of the rim, channel by channel."""
    rim = np.concatenate([view[0], view[-1], view[1:-1, 0], view[1:-1, -1]])
    return np.sort(rim, axis=0)[len(rim) // 2]  # type: ignore[no-any-return]


def _lines(weights: np.ndarray) -> np.ndarray:
    """Where the cells of one axis begin and end, float64 (7,) in pixels: equal shares of `weights`, int64 (32,)."""
    at = np.arange(VIEW + 1)
    total = int(weights.sum())
    shares = at / VIEW
    if total:
        shares = (1 - EVEN) * (np.concatenate([[0], np.cumsum(weights)]) / total) + EVEN * shares
    wanted = np.arange(1, GRID) / GRID
    before = np.searchsorted(shares, wanted, side="right") - 1
    inner = before + (wanted - shares[before]) / (shares[before + 1] - shares[before])
    return np.concatenate([[0.0], inner, [float(VIEW)]])


def _cells(values: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Sums of int64 (32, 32, c) over cells whose lines fall between pixels: float64 (6, 6, c)."""
    total = np.zeros((VIEW + 1, VIEW + 1, values.shape[2]), np.int64)
    total[1:, 1:] = values.cumsum(axis=0).cumsum(axis=1)
    by_row = _between(total, rows)
    corners = _between(by_row.transpose(1, 0, 2), columns).transpose(1, 0, 2)
    return corners[1:, 1:] - corners[:-1, 1:] - corners[1:, :-1] + corners[:-1, :-1]  # type: ignore[no-any-return]


def _between(table: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Rows of `table` at places that are no whole numbers, by linear interpolation."""
    whole = np.minimum(at.astype(np.int64), VIEW - 1)
    part = (at - whole)[:, None, None]
    return table[whole] * (1 - part) + table[whole + 1] * part  # type: ignore[no-any-return]
