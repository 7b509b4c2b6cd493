"""Fixtures that every test may use: the real data beside the project, and one Ray for the whole session."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real photos and captions; tests that need it say so when it is not there."""
    if not SHARED.is_dir():
        pytest.skip(f"no real data at {SHARED}: tests on real photos are skipped")
    return SHARED
