"""Regions of a picture that text covers, and the picture with them painted over.

    covered([[0.1, 0.1, 0.9, 0.1, 0.9, 0.3, 0.1, 0.3]], 100, 200).mean()     # 0.16
    painted(rgb, boxes)                                                     # uint8, as large

A box is a polygon as the column `text_boxes` has it: x1, y1, x2, y2, ..., each from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Box = Sequence[float]
RING = 64  # the shorter side over this is how far around a region one looks for its colour


def covered(boxes: Sequence[Box], height: int, width: int) -> np.ndarray:
    """bool (height, width): pixels inside a box."""
    import cv2

    mask = np.zeros((height, width), np.uint8)
    for box in boxes:  # one by one: together they would cancel out where they overlap
        cv2.fillPoly(mask, [_corners(box, height, width)], 1)
    return mask.astype(bool)


def painted(rgb: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
    """The picture, uint8 (height, width, 3), with each region in the mean colour of the pixels around it (T-MARS).

    Around: a ring of a 64th of the shorter side, without pixels of any region; where there are none, all pixels of no
    region; where there are none either, the region itself.
    """
    height, width = rgb.shape[:2]
    all_regions, out = covered(boxes, height, width), rgb.copy()
    for box in boxes:
        rows, columns = _window(box, height, width)
        region = covered([box], height, width)[rows, columns]
        ring = _grown(region, _ring(height, width)) & ~all_regions[rows, columns]
        out[rows, columns][region] = _mean(rgb[rows, columns], ring, rgb, ~all_regions, region)
    return out


def _mean(near: np.ndarray, ring: np.ndarray, rgb: np.ndarray, outside: np.ndarray, region: np.ndarray) -> np.ndarray:
    pixels = near[ring] if ring.any() else rgb[outside] if outside.any() else near[region]
    return np.rint(pixels.mean(axis=0)).astype(np.uint8)


def _ring(height: int, width: int) -> int:
    return max(1, round(min(height, width) / RING))


def _grown(region: np.ndarray, by: int) -> np.ndarray:
    import cv2

    return cv2.dilate(region.astype(np.uint8), np.ones((2 * by + 1, 2 * by + 1), np.uint8)).astype(bool)


def _window(box: Box, height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of the picture that hold the box and its ring."""
    corners, by = _corners(box, height, width), _ring(height, width)
    left, top = np.maximum(corners.min(axis=0) - by, 0)
    right, bottom = corners.max(axis=0) + by + 1
    return slice(int(top), int(bottom)), slice(int(left), int(right))


def _corners(box: Box, height: int, width: int) -> np.ndarray:
    """int32 (corners, 2): the outermost pixels, within the picture, whose middle is inside."""
    edges = np.reshape(box, (-1, 2)) * (width, height)
    corners = np.rint(edges - 0.5 - 0.5 * np.sign(edges - edges.mean(axis=0)))
    return np.clip(corners, 0, (width - 1, height - 1)).astype(np.int32)
