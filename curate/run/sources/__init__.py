"""What a list is read from: lists of URLs, WebDataset tars, folders of images, parquet with image bytes.

source = open_source(SourceSpec(path="laion/*.parquet"))
claim = register(storage, source, shard_size=10_000)         # curate/pool/lists.py
"""

from curate.run.sources.source import ListSource, open_source
from curate.run.sources.spec import SourceSpec

__all__ = ["ListSource", "SourceSpec", "open_source"]
