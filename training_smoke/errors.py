"""What a person can mend: a wrong configuration, a missing file, a run that cannot go on."""

from __future__ import annotations


class TrainingError(Exception):
    """Says what is wrong and what to do about it, in a line or two."""
