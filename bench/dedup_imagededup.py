"""Their side of a comparison of near hashes, in imagededup's environment: `python dedup_imagededup.py HASHES METHOD`.

HASHES is a .npy of uint64. Nothing of ours is imported. Its packages `utils` and `methods` import torch when they are
imported whole, for its neural networks; the search of hashes needs none of that, so they are entered without it.
"""

import importlib.util
import json
import sys
import time
import types
from pathlib import Path

import numpy as np

DISTANCE = 4


def enter(name: str) -> None:
    """Make `name` a package whose __init__ never ran."""
    found = importlib.util.find_spec("imagededup")
    assert found is not None
    assert found.origin is not None
    package = types.ModuleType(name)
    package.__path__ = [str(Path(found.origin).parent / name.split(".")[1])]
    sys.modules[name] = package


if __name__ == "__main__":
    for part in ("imagededup.utils", "imagededup.methods"):
        enter(part)
    from imagededup.handlers.search.retrieval import HashEval
    from imagededup.methods.hashing import Hashing

    hashes = {f"{i}.jpg": f"{h:016x}" for i, h in enumerate(np.load(sys.argv[1]).tolist())}
    began = time.perf_counter()
    search = HashEval(
        test=hashes,
        queries=hashes,
        distance_function=Hashing.hamming_distance,
        verbose=False,
        threshold=DISTANCE,
        search_method=sys.argv[2],
    )
    found = search.retrieve_results()
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "pairs": sum(len(near) for near in found.values()) // 2}))
