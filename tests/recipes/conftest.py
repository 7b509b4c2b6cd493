"""One world a session for the tests of recipes: building it costs more than most recipes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import SHARED
from tests.recipes.given import make_given
from tests.recipes.material import drawn, real
from tests.recipes.planted import planted
from tests.recipes.world import World


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """About 2,000 samples: real pictures and texts where they lie beside the project, else drawn scenes."""
    material = real(SHARED) if SHARED.is_dir() else drawn()
    folder: Path = tmp_path_factory.mktemp("recipes")
    (folder / "given").mkdir()
    return World(folder, planted(material), make_given(folder / "given", material))
