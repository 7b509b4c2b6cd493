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
from training_smoke import files, resident
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


# ---- the limit


def limited(monkeypatch: pytest.MonkeyPatch, pack: Pack, sizes: int) -> None:
    """Room for so many pixels a sample's side, added up over the files."""
    monkeypatch.setenv("CURATE_CACHE_GB", str((len(pack) * 3 * sizes + 4 * 128) / 1e9))


def there(folder: Path) -> set[str]:
    return {p.name.split("-")[1] for p in folder.glob("*.npy")}


def test_what_was_used_longest_ago_goes(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limited(monkeypatch, pack, 4**2 + 5**2 + 6**2)
    for number, size in enumerate((4, 5, 6)):
        resident_pixels(pack, size, tmp_path)
        age(tmp_path, f"{size}px", 100 - number)
    assert there(tmp_path) == {"4px", "5px", "6px"}
    again = np.array(resident_pixels(pack, 4, tmp_path))  # used: now 5 is the oldest
    resident_pixels(pack, 3, tmp_path)
    assert there(tmp_path) == {"4px", "6px", "3px"}
    assert np.array_equal(resident_pixels(pack, 4, tmp_path), again)


def age(folder: Path, what: str, seconds: float) -> None:
    for path in folder.glob(f"*-{what}-*.npy"):
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - seconds))


def test_what_is_in_use_stays_and_goes_when_it_is_not(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(monkeypatch, pack, 10)
    mapped = resident_pixels(pack, 8, tmp_path)
    part = mapped[3:5]
    age(tmp_path, "8px", 100)
    resident_pixels(pack, 4, tmp_path)
    assert "8px" in there(tmp_path)
    del mapped  # a view of it is left
    resident_pixels(pack, 5, tmp_path)
    assert "8px" in there(tmp_path)
    assert np.array_equal(part[0], square(pack.image_bytes(3), 8))
    del part
    resident_pixels(pack, 6, tmp_path)
    assert there(tmp_path) == {"6px"}  # in use while the folder was trimmed


def test_a_loader_keeps_its_pixels_while_it_lives(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limited(monkeypatch, pack, 1)
    batches = held(pack, tmp_path)
    age(tmp_path, "16px", 100)
    resident_pixels(pack, 4, tmp_path)
    assert "16px" in there(tmp_path)
    assert all(map(same, batches, loader(pack)))
    del batches
    resident_pixels(pack, 5, tmp_path)
    assert "16px" not in there(tmp_path)


USED = """
import sys
from pathlib import Path
from training_smoke.packs import Pack
from training_smoke.resident import resident_pixels
kept = resident_pixels(Pack.open(sys.argv[1]), 8, Path(sys.argv[2]), workers=1)
print("mapped", flush=True)
sys.stdin.read()
"""


def test_what_another_process_uses_stays_until_it_dies(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-c", USED, pack.url, str(tmp_path)]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "mapped\n"
    limited(monkeypatch, pack, 10)
    age(tmp_path, "8px", 100)
    resident_pixels(pack, 4, tmp_path)
    assert "8px" in there(tmp_path)
    other.kill()
    other.communicate()
    resident_pixels(pack, 5, tmp_path)
    assert "8px" not in there(tmp_path)


def test_what_a_killed_process_had_begun_goes_too(pack: Pack, tmp_path: Path) -> None:
    left, being_made = (tmp_path / f"{digest}-8px-v1.npy.partial" for digest in ("0" * 32, "1" * 32))
    left.write_bytes(b"half")
    being_made.write_bytes(b"half")
    with files.locked(being_made.with_suffix("")):
        resident_pixels(pack, 4, tmp_path)
    assert not left.exists()
    assert being_made.exists()
