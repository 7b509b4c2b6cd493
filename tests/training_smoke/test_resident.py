"""Resident pixels: the loader's bytes, decoded once by whoever comes first, and never half."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training_smoke.pack_parts import TWO, codes, copies, packed, pictures
from tests.training_smoke.test_loader import loader, same
from training_smoke import resident
from training_smoke.errors import TrainingError
from training_smoke.packs import Pack
from training_smoke.pixels import square
from training_smoke.resident import ResidentLoader, resident_pixels


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    samples = [*pictures(60, emit=TWO), *pictures(5, 60, emit=copies(2)), *pictures(5, 65, text="the same")]
    return Pack.open(packed(tmp_path_factory.mktemp("resident"), samples, samples=10))


def held(packs: Any, folder: Path, **changes: Any) -> ResidentLoader:
    settings = {"batch": 12, "size": 16, "seed": 0, "steps": 9, "tokenize": codes}
    return ResidentLoader(packs=packs, folder=folder, **settings | changes)


class Counted:
    """Counts the images that are decoded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.images = 0

        def counted(*arguments: Any) -> np.ndarray:
            self.images += 1
            return square(*arguments)

        monkeypatch.setattr("training_smoke.loader.square", counted)


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


def test_batches_are_those_of_the_loader(pack: Pack, tmp_path: Path) -> None:
    assert all(map(same, held(pack, tmp_path, groups=True), loader(pack, groups=True)))


def test_so_are_those_of_a_mixture_of_a_rank_from_a_step(pack: Pack, tmp_path: Path) -> None:
    other = Pack.open(packed(tmp_path, pictures(20, 100)))
    more: dict[str, Any] = {"rank": 1, "world": 3, "start_step": 4, "seed": 9, "groups": True}
    one, two = held({pack: 1, other: 2}, tmp_path, **more), loader({pack: 1, other: 2}, **more)
    assert [same(*pair) for pair in zip(one, two, strict=True)] == [True] * 5


def test_pixels_are_decoded_once_and_shared(pack: Pack, tmp_path: Path, decodes: Counted) -> None:
    with ThreadPoolExecutor(4) as threads:
        arrays = list(threads.map(lambda _: resident_pixels(pack, 16, tmp_path), range(4)))
    assert decodes.images == len(pack)
    for i in range(len(pack)):
        assert np.array_equal(arrays[0][i], square(pack.image_bytes(i), 16))
    assert all(np.array_equal(a, arrays[0]) for a in arrays)
    assert [p.suffix for p in sorted(tmp_path.iterdir())] == [".npy", ".lock"]


def test_another_size_or_pack_is_another_file(pack: Pack, tmp_path: Path, decodes: Counted) -> None:
    other = Pack.open(packed(tmp_path, pictures(3)))
    shapes = {resident_pixels(p, size, tmp_path / "pixels").shape for p in (pack, other) for size in (8, 16)}
    assert shapes == {(n, size, size, 3) for n in (75, 3) for size in (8, 16)}
    assert decodes.images == 2 * 78


KILLED = """
import os, signal, sys
from pathlib import Path
from training_smoke import loader
from training_smoke.packs import Pack
from training_smoke.resident import resident_pixels

left, real = [40], loader.square
def square(*arguments):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments)
loader.square = square
resident_pixels(Pack.open(sys.argv[1]), 16, Path(sys.argv[2]), workers=1)
"""


def test_what_a_killed_process_left_is_made_anew(pack: Pack, tmp_path: Path, decodes: Counted) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, pack.url, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".lock", ".partial"]
    pixels = resident_pixels(pack, 16, tmp_path)
    assert decodes.images == len(pack)
    assert all(np.array_equal(pixels[i], square(pack.image_bytes(i), 16)) for i in range(len(pack)))
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".lock", ".npy"]


def test_a_sample_that_does_not_decode_leaves_no_file(tmp_path: Path) -> None:
    broken = pictures(1, image=pictures(1)[0]["image"][:200])
    bad = Pack.open(packed(tmp_path, pictures(5, 1) + broken))
    with pytest.raises(TrainingError, match=f"sample {broken[0]['uid'].hex()} does not decode"):
        held(bad, tmp_path / "pixels")
    assert [p.suffix for p in (tmp_path / "pixels").iterdir()] == [".lock"]


def test_all_samples_that_do_not_decode_are_named_at_once(tmp_path: Path) -> None:
    broken = [sample | {"image": b"no picture"} for sample in pictures(3)]
    bad = Pack.open(packed(tmp_path, pictures(5, 3) + broken))
    with pytest.raises(TrainingError, match=r"3 of 8 samples do not decode, one of them: .*curate purge POOL --uids"):
        held(bad, tmp_path / "pixels")
    (names,) = (tmp_path / "pixels").glob("*.broken.txt")
    assert names.read_text().split() == sorted(sample["uid"].hex() for sample in broken)
    assert not list((tmp_path / "pixels").glob("*.npy"))


def test_a_full_disk_is_said_before_anything_is_decoded(
    pack: Pack, tmp_path: Path, decodes: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(TrainingError, match=r"no room for 0\.0 GB of decoded pixels: No space left.*CURATE_CACHE"):
        held(pack, tmp_path)
    assert decodes.images == 0
    assert [p.suffix for p in tmp_path.iterdir()] == [".lock"]


def test_each_text_is_read_and_tokenised_once(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    said: list[str] = []
    real = Pack.texts
    monkeypatch.setattr(Pack, "texts", lambda self, i: (read.append(i), real(self, i))[1])

    def counted(texts: list[str]) -> Any:
        said.extend(texts)
        return codes(texts)

    for _ in held(pack, tmp_path, tokenize=counted, steps=40):
        pass
    assert sorted(read) == list(range(len(pack)))
    assert len(said) == len(set(said))


def test_the_file_is_in_the_cache_by_default(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path))
    resident_pixels(pack, 8)
    (file,) = tmp_path.glob("resident/*.npy")
    assert file.name == f"{pack.digest[:32]}-8px-v{resident.VERSION}.npy"
