"""Inner loops compiled by Numba, kept in a cache on disk so that only the first process on a machine waits for it.

@compiled(types.int64(types.uint8[::1]))
def count(data): ...
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any


def compiled(signature: Any) -> Callable[[Any], Any]:
    """Decorator: the function as machine code for these types, without Python's lock; division by zero is inf or nan.

    Where there is no folder to keep a cache in, it takes some seconds in each process.
    """
    from numba import njit

    def make(kernel: Any) -> Any:
        build: Any = partial(njit, signature, nogil=True, error_model="numpy")
        try:
            return build(cache=True)(kernel)
        except RuntimeError as e:
            if "cannot cache" not in str(e):
                raise
            return build()(kernel)

    return make
