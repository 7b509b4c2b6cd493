"""A pick written as training shards: tars (or parquet) of even size, in an order that the seed alone decides."""

from curate.run.pack.drive import pack, pack_folder
from curate.run.pack.spec import PackSpec

__all__ = ["PackSpec", "pack", "pack_folder"]
