"""Batches from packs: their bytes in the order that `order` says, in any world, from any step; or an error by name."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch

from stages.decode import to_array
from tests.training_smoke.pack_parts import TWO, codes, copies, packed, pictures, put, words
from training_smoke.errors import TrainingError
from training_smoke.loader import Batch, Loader, alike
from training_smoke.packs import Pack
from training_smoke.pixels import square


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """50 samples in 5 tars, two texts each."""
    return Pack.open(packed(tmp_path_factory.mktemp("loader"), pictures(50, emit=TWO), samples=10))


def loader(packs: Any, **changes: Any) -> Loader:
    settings = {"batch": 12, "size": 16, "seed": 0, "steps": 9, "tokenize": codes, "workers": 3}
    return Loader(packs=packs, **settings | changes)


def same(a: Batch, b: Batch) -> bool:
    groups = a.groups is b.groups is None or torch.equal(a.groups, b.groups)  # type: ignore[arg-type]
    return (
        (a.step, a.uids) == (b.step, b.uids)
        and torch.equal(a.images, b.images)
        and torch.equal(a.tokens, b.tokens)
        and groups
    )


# ------------------------------------------------------------------------------------------------ what is in a batch


def test_a_batch_has_the_pixels_texts_and_uids_of_its_samples(pack: Pack) -> None:
    whole = loader(pack)
    batches = list(whole)
    assert [b.step for b in batches] == list(range(9))
    texts = Counter()
    for batch in batches:
        assert (batch.images.dtype, batch.images.shape) == (torch.uint8, (12, 3, 16, 16))
        assert (batch.tokens.dtype, batch.groups) == (torch.int64, None)
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        said = words(batch.tokens)
        for row, i in enumerate(whole.order.draw(batch.step).sample.tolist()):
            sample = pack.read(i)
            assert batch.uids[row] == sample.uid
            assert np.array_equal(batch.images[row].permute(1, 2, 0).numpy(), square(sample.image, 16))
            assert said[row] in [text for text, _ in sample.texts]
            texts[said[row].startswith("http")] += 1
    assert 108 * 0.75 - 4 * 4.5 < texts[True] < 108 * 0.75 + 4 * 4.5  # the second text has probability 3/4


def test_every_sample_once_in_an_epoch_however_many_threads(pack: Pack) -> None:
    one, many = list(loader(pack, batch=10, steps=10, workers=1)), list(loader(pack, batch=10, steps=10, workers=7))
    assert all(map(same, one, many))
    for epoch in (one[:5], one[5:]):
        uids = [uid for batch in epoch for uid in batch.uids]
        assert len(uids) == len(set(uids)) == 50


def test_going_on_from_any_step_is_as_if_nothing_had_been(pack: Pack) -> None:
    whole = list(loader(pack, groups=True))
    for start in (1, 4, 8, 9):
        assert all(map(same, loader(pack, groups=True, start_step=start), whole[start:]))
        assert len(list(loader(pack, start_step=start))) == 9 - start


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_the_batch_of_one(pack: Pack, world: int) -> None:
    whole = loader(pack, groups=True)
    ranks = [loader(pack, groups=True, rank=rank, world=world) for rank in range(world)]
    for batch, *parts in zip(whole, *ranks, strict=True):
        for name in ("images", "tokens", "groups"):
            assert torch.equal(torch.cat([getattr(p, name) for p in parts]), getattr(batch, name))
        assert [uid for part in parts for uid in part.uids] == batch.uids


def test_a_pack_of_one_small_shard_feeds_any_world_and_batch(tmp_path: Path) -> None:
    tiny = Pack.open(packed(tmp_path, pictures(3)))
    batches = [list(loader(tiny, batch=16, steps=4, rank=rank, world=8)) for rank in range(8)]
    uids = [batches[rank][step].uids for step in range(4) for rank in range(8)]
    assert Counter(uid for part in uids for uid in part).most_common()[-1][1] >= 21  # 64 turns of 3 samples


def test_a_mixture_gives_each_pack_its_share(pack: Pack, tmp_path: Path) -> None:
    other = Pack.open(packed(tmp_path, pictures(20, 100)))
    mixed = loader({pack: 3, other: 1}, batch=200, steps=4)
    own = {sample.decode() for sample in other.samples.uid}
    share = np.mean([uid in own for batch in mixed for uid in batch.uids])
    assert abs(share - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 800)


def test_weights_are_turns(tmp_path: Path) -> None:
    samples = [pictures(1, i, emit=copies(1 + i % 3))[0] for i in range(9)]
    weighted = Pack.open(packed(tmp_path / "a", samples, repeat="weight"))
    copied = Pack.open(packed(tmp_path / "b", samples, repeat="copies"))
    counts = [Counter(u for b in loader(p, batch=6, steps=3) for u in b.uids) for p in (weighted, copied)]
    assert counts[0] == counts[1] == {s["uid"].hex(): 1 + i % 3 for i, s in enumerate(samples)}


# ------------------------------------------------------------------------------------------------ groups


def test_groups_join_equal_images_and_equal_texts_also_by_way_of_others() -> None:
    image, text = np.array([1, 1, 2, 3, 4, 5], np.uint64), np.array([1, 2, 2, 3, 4, 4], np.uint64)
    a, b, c, d, e, f = alike(image, text).tolist()
    assert a == b == c
    assert e == f
    assert len({a, d, e}) == 3


def test_groups_of_a_pack(tmp_path: Path) -> None:
    samples = [*pictures(4, emit=copies(2)), *pictures(2, 4, text="the same"), *pictures(6, 6)]
    batch = next(iter(loader(Pack.open(packed(tmp_path, samples)), batch=16, groups=True)))
    assert batch.groups is not None
    assert batch.groups.dtype == torch.int64
    said = words(batch.tokens)
    alike = [[batch.uids[a] == batch.uids[b] or said[a] == said[b] for a in range(16)] for b in range(16)]
    assert (batch.groups[:, None] == batch.groups[None, :]).tolist() == alike
    assert sum(map(sum, alike)) == 4 * 4 + 4 + 6


# ------------------------------------------------------------------------------------------------ pixels


@pytest.mark.parametrize("size", [8, 16, 33])
def test_a_square_is_the_middle_of_the_picture(size: int) -> None:
    for sample in pictures(12):
        found = square(sample["image"], size)
        assert (found.shape, found.dtype) == ((size, size, 3), np.uint8)
        whole = to_array(sample["image"])
        side = min(whole.shape[:2])
        top, left = ((n - side) // 2 for n in whole.shape[:2])
        middle = whole[top : top + side, left : left + side].mean((0, 1))
        assert np.abs(found.mean((0, 1)) - middle).max() < 8


def test_a_stored_square_keeps_its_pixels() -> None:
    data = pictures(1)[0]["image"]
    assert np.array_equal(square(data, 16), to_array(data))


# ------------------------------------------------------------------------------------------------ what goes wrong


def test_a_sample_that_does_not_decode_ends_the_run_by_its_uid(tmp_path: Path) -> None:
    samples = pictures(20)
    broken = pictures(1, 20, image=samples[0]["image"][:200], format="jpg")
    bad = Pack.open(packed(tmp_path, samples + broken))
    with pytest.raises(TrainingError, match=f"sample {broken[0]['uid'].hex()} does not decode: truncated.*purge"):
        list(loader(bad, batch=7, steps=3))


def test_an_error_of_the_tokeniser_comes_out(pack: Pack) -> None:
    def refuse(texts: list[str]) -> Any:
        raise RuntimeError("no such word")

    with pytest.raises(RuntimeError, match="no such word"):
        list(loader(pack, tokenize=refuse))


def test_leaving_early_leaves_no_thread(pack: Pack) -> None:
    before = threading.active_count()
    for batch in loader(pack, steps=10_000):
        if batch.step == 2:
            break
    del batch
    assert threading.active_count() == before


def test_the_wait_is_measured_and_hidden_behind_work(pack: Pack) -> None:
    def slow(texts: list[str]) -> torch.Tensor:
        time.sleep(0.05)
        return codes(texts)

    idle = [batch.wait_s for batch in loader(pack, tokenize=slow, steps=6)]
    assert sum(idle[2:]) > 4 * 0.03
    busy = []
    for batch in loader(pack, tokenize=slow, steps=6):
        busy.append(batch.wait_s)
        time.sleep(0.15)
    assert sum(busy[2:]) < sum(idle[2:]) / 2


def test_no_more_batches_are_made_ahead_than_said(pack: Pack) -> None:
    made = []

    def counted(texts: list[str]) -> torch.Tensor:
        made.append(len(texts))
        return codes(texts)

    reading = iter(loader(pack, tokenize=counted, steps=100))
    next(reading)
    time.sleep(0.3)
    assert 1 <= len(made) <= 3
    reading.close()  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------------ from afar


def test_a_remote_pack_gives_the_same_batches(pack: Pack, tmp_path: Path) -> None:
    put(Path(pack.url), f"memory://loader-{tmp_path.name}")
    remote = Pack.open(f"memory://loader-{tmp_path.name}", tmp_path / "cache")
    assert all(map(same, loader(remote, window=20), loader(pack, window=20)))


def test_a_remote_shard_that_is_gone_is_named_not_waited_for(pack: Pack, tmp_path: Path) -> None:
    url = f"memory://gone-{tmp_path.name}"
    put(Path(pack.url), url)
    fs, root = fsspec.core.url_to_fs(url)
    fs.rm_file(f"{root}/00000003.tar")
    with pytest.raises(TrainingError, match=r"00000003\.tar: there is no such file"):
        list(loader(Pack.open(url, tmp_path / "cache"), batch=50))


def test_a_cache_too_small_for_the_window_is_refused(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(Path(pack.url), f"memory://small-{tmp_path.name}")
    remote = Pack.open(f"memory://small-{tmp_path.name}", tmp_path / "cache")
    monkeypatch.setenv("CURATE_CACHE_GB", str(0.9 * pack.bytes / 1e9))
    with pytest.raises(TrainingError, match="raise CURATE_CACHE_GB, or train with a smaller window"):
        loader(remote)
    small = loader(remote, window=10)
    assert all(map(same, small, loader(pack, window=10)))


def test_on_a_device_it_is_the_same_batch(pack: Pack) -> None:
    batch = next(iter(loader(pack, groups=True)))
    assert same(batch.to(torch.device("cpu")), replace(batch, wait_s=0.0))


def test_the_loader_stands_on_its_own() -> None:
    forbidden = "curate", "filters", "ray", "torchvision", "open_clip"
    code = f"import training_smoke.resident, sys; print([m for m in {forbidden} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
