"""What finds rendered text in a picture: a detector, and how one is named.

    detector = named("ppocr")                           # or "strokes", or "my_package.my_module:MyDetector"
    detector.open()
    detector.polygons(rgb)                              # [float32 (4, 2)], x and y from 0 to 1

One of your own is a class over `TextDetector`; it lies on PYTHONPATH.
"""

from __future__ import annotations

import difflib
import importlib
import re

import numpy as np

from stages.base import Parameters

BUILT_IN = {
    "strokes": "stages.text_detector_strokes:StrokeText",
    "ppocr": "stages.text_detector_ppocr:PPOCRText",
}
_PATH = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*"


class TextDetector(Parameters):
    """A pure function from pixels to polygons around text: same pixels in, same polygons out.

        class Nothing(TextDetector):
            def polygons(self, rgb): return []

    weights: a file; None: none are needed, or the detector knows where to look (`files()` says so or raises).
    """

    weights: str | None = None

    def open(self) -> None:
        """Load weights: called once a worker.

        Raises:
            ValueError: something is missing; says what to do.
        """

    def polygons(self, rgb: np.ndarray) -> list[np.ndarray]:
        """uint8 (height, width, 3) -> a polygon a text, float (corners, 2): x over width, y over height."""
        raise NotImplementedError(f"{type(self).__name__}.polygons")


def named(detector: str, weights: str | None = None) -> TextDetector:
    """The detector of a built-in name, or of ``package.module:Class``.

    Raises:
        ValueError: there is none of this name, or its parameters are not as it wants them.
    """
    path = BUILT_IN.get(detector, detector)
    if not re.fullmatch(_PATH, path):
        near = difflib.get_close_matches(detector, BUILT_IN, 1)
        said = f"; did you mean {near[0]!r}?" if near else ""
        known = ", ".join(BUILT_IN)
        raise ValueError(
            f"detector {detector!r} is not known{said} (built in: {known}; your own as package.module:Class)"
        )
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except (ImportError, SyntaxError) as e:
        raise ValueError(f"detector {detector}: cannot import {module} ({e}); is it on PYTHONPATH?") from e
    if not (isinstance(found, type) and issubclass(found, TextDetector)):
        raise ValueError(f"detector {detector}: {module} has no class {name} over {__name__}.TextDetector")
    return found(weights=weights)
