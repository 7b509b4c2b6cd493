"""Real evaluation pictures in a real pool: each copy of them goes, and nothing else does."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from stages.eval_matches import EvalMatches
from stages.eval_sets import EvalSet
from tests.phase_runner import PhaseRunner
from tests.real.jobs import run
from tests.real.photos import photos
from tests.stages.eval_pictures import FACTS, easy, facts

LARGE = ("imagenet1k_sample", "imagenette", "clothing", "flowers")
SHOTS = 6  # of each source, under every easy transform


@pytest.fixture(scope="module")
def labelled(shared_data: Path) -> Path:
    """6,397 pictures of five public sets."""
    return shared_data / "images/labelled_eval.parquet"


def some(labelled: Path, sources: tuple[str, ...], of_each: int) -> list[tuple[str, bytes]]:
    """(source, picture), evenly spaced over each source."""
    table = pq.read_table(labelled, columns=["source", "image"])
    source = np.array(table.column("source").to_pylist())
    rows = [at[:: len(at) // of_each][:of_each] for at in (np.flatnonzero(source == s) for s in sources)]
    chosen = np.concatenate(rows)
    images = table.column("image").take(pa.array(chosen)).to_pylist()
    return list(zip(source[chosen].tolist(), images, strict=True))


def test_easy_transforms_of_real_pictures_are_found(labelled: Path, tmp_path: Path) -> None:
    """Of 192 pixels a quarter without smoothing is another picture: some of those are missed, and nothing else is."""
    shots = [image for _, image in some(labelled, LARGE, SHOTS)]
    more = [image for _, image in some(labelled, LARGE, 60)]
    pq.write_table(pa.table({"image": [*more, *shots]}), tmp_path / "set.parquet")
    shots = [image for image, known in zip(shots, facts(shots), strict=True) if known["phash_quality"] >= 50]
    copies = [copy for image in shots for copy in easy(Image.open(io.BytesIO(image)).convert("RGB")).items()]
    pool = {0: pa.Table.from_pylist(facts([data for _, data in copies]), FACTS)}
    found = PhaseRunner(pool).run(EvalMatches(sets=(EvalSet(name="labelled", path=str(tmp_path)),)))[0]
    names = found.column("eval_set").to_pylist()
    missed = Counter(kind for (kind, _), name in zip(copies, names, strict=True) if name is None)
    assert missed.keys() <= {"resize_0.25_nearest"}
    assert missed.total() <= 0.1 * len(shots)
    assert len(shots) > 20
    assert len(copies) == 23 * len(shots)


def test_through_the_pipeline_the_set_goes_whole_and_other_photos_stay(
    labelled: Path, shared_data: Path, tmp_path: Path
) -> None:
    theirs = [image for _, image in some(labelled, (*LARGE, "cifar10"), 16)]
    others = [p.image for p in photos(shared_data)[:120]]
    urls = [f"http://x.test/{i}" for i in range(len(theirs) + len(others))]
    kinds = ["theirs"] * len(theirs) + ["other"] * len(others)
    pq.write_table(
        pa.table({"url": urls, "text": urls, "image": [*theirs, *others], "kind": kinds}), tmp_path / "list.parquet"
    )
    sets = [{"name": "labelled", "path": str(labelled)}]
    recipe = {
        "recipe": "clean",
        "pool": str(tmp_path / "pool"),
        "shard_size": 100,
        "source": {"path": str(tmp_path / "list.parquet"), "url": None, "image": "image"},
        "filters": [{"id": "evaluation", "decontaminate": {"sets": sets, "over": "pool"}}],
    }
    done = run(recipe, tmp_path)
    counted = done.rows("SELECT kind, reason, count(*) AS n FROM samples GROUP BY ALL ORDER BY ALL")
    assert [(r["kind"], r["reason"], r["n"]) for r in counted] == [("other", None, 120), ("theirs", "in_labelled", 80)]
