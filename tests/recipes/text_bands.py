"""A detector of text for tests, a user's own class: white bands across a picture, as `planted.written_on` has them."""

from __future__ import annotations

import numpy as np

from stages.text_detector_base import TextDetector


class WhiteBands(TextDetector):
    """Rows of pixels that are mostly white, one polygon a band."""

    def polygons(self, rgb: np.ndarray) -> list[np.ndarray]:
        height = len(rgb)
        white = (rgb[:, ::4].min(axis=2) > 240).mean(axis=1) > 0.4
        edges = np.flatnonzero(np.diff(np.concatenate([[False], white, [False]]).astype(np.int8)))
        bands = edges.reshape(-1, 2) / height
        return [np.array([[0, top], [1, top], [1, end], [0, end]]) for top, end in bands]
