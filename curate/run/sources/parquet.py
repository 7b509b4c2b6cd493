"""Parquet of strangers: whatever is damaged in it ends in an error that names the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from curate.errors import UserError
from curate.run.sources.files import seekable
from curate.run.sources.footer import Damaged
from curate.text import visible

SAID = 240  # characters of what is wrong; names of columns are in it, which may be anything


@contextmanager
def opened_parquet(path: str, **how: Any) -> Iterator[tuple[pq.ParquetFile, BinaryIO]]:
    """The file, plain or gzip, and its bytes; `how` is for pyarrow. Of its metadata only `groups` of the bytes may be
    asked for columns: pyarrow's `row_group(i).column(j)` ends the process where the footer is damaged.

    Raises:
        UserError: it cannot be read; also where that shows in what is done with it.
    """
    with seekable(path) as f, _telling(path), pq.ParquetFile(f, **how) as file:
        yield file, f


@contextmanager
def _telling(path: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, UnicodeDecodeError, Damaged) as e:  # UTF-8: of a column's name
        raise _damaged(path, e) from e
    except OSError as e:
        if type(e) is OSError and e.errno is None:  # pyarrow's, of bytes that do not unpack; others are the machine's
            raise _damaged(path, e) from e
        raise


def _damaged(path: str, error: Exception) -> UserError:
    why = visible(" ".join(str(error).split()))[:SAID].rstrip(".")
    return UserError(f"{path}: cannot be read as parquet: {why}; fetch or write the file again")
