"""Compiled loops where their code can be kept nowhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

import stages
from stages.kernels import area_table

CODE = """
import numpy as np, stages.kernels as k
print(k.__file__)
print([type(f._cache).__name__ for f in (k.area_table, k.area, k.luma, k.resample)])
for part in k.area_table(1000, 37): print(part.tobytes().hex())
"""


def test_without_a_folder_for_the_cache_they_are_compiled_each_time(tmp_path: Path) -> None:
    """A file where a folder should be: root, too, cannot write there."""
    own = tmp_path / "stages"
    own.mkdir()
    folder = Path(stages.__file__).parent
    for name in ("__init__.py", "compiled.py", "kernels.py"):
        shutil.copy(folder / name, own / name)
    (own / "__pycache__").touch()
    nowhere = {name: str(own / "__pycache__") for name in ("NUMBA_CACHE_DIR", "HOME", "XDG_CACHE_HOME")}
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | nowhere, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    where, caches, *parts = done.stdout.split("\n")
    assert where == str(own / "kernels.py")
    assert caches == str(["NullCache"] * 4), "none was kept: the test is about that"
    for found, wanted in zip(parts[:3], area_table(1000, 37), strict=True):
        assert found == np.asarray(wanted).tobytes().hex()
