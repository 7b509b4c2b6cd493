"""Logarithms that are the same bits on every processor: for orders and times that several machines work out again.

numpy's `log`, `log1p` and `logaddexp` choose their code by the processor, and may differ in the last bit between two of
a cluster; then a sample that one machine found to be the last winner comes too late on another, and a total is off by
one. These take additions, multiplications and divisions only, one at a time, which IEEE 754 rounds alike everywhere.

Follow FDLIBM (Sun Microsystems 1993; e_log.c, e_exp.c): within a unit in the last place or two.

    log(np.array([0.0, 1.0, np.e]))                 # [-inf, 0.0, 1.0]
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

BLOCK = 1 << 15  # values at a time: what is in between stays small, whatever is asked

_ROOT = 0.7071067811865476  # mantissas lie between it and twice as much
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_LN2 = 6.931471805599453e-01
_ODD = (6.666666666666735130e-01, 2.857142874366239149e-01, 1.818357216161805012e-01, 1.479819860511658591e-01)
_EVEN = (3.999999999940941908e-01, 2.222219843214978396e-01, 1.531383769920937332e-01)
_EXP = (
    1.66666666666666019037e-01,
    -2.77777777770155933842e-03,
    6.61375632143793436117e-05,
    -1.65339022054652515390e-06,
    4.13813679705723846039e-08,
)
_LEAST = -745.2  # exp of less is 0


def log(values: np.ndarray) -> np.ndarray:
    """float64 (n,): natural logarithms; -inf for 0, NaN below it."""
    return _in_blocks(_log, values)


def log1m(values: np.ndarray) -> np.ndarray:
    """float64 (n,): log(1 - x) for x from 0 to 1, to the last place or two also where x is small."""
    return _in_blocks(lambda x: _near_one(-x), values)


def log_sum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """float64 (n,): log(exp(a) + exp(b)); either may be -inf."""
    return _in_blocks(_log_sum, a, b)


def _in_blocks(function: Callable[..., np.ndarray], *arrays: np.ndarray) -> np.ndarray:
    found = np.empty(len(arrays[0]))
    for start in range(0, len(found), BLOCK):
        part = slice(start, start + BLOCK)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            found[part] = function(*(np.asarray(a[part], np.float64) for a in arrays))
    return found


def _log(x: np.ndarray) -> np.ndarray:
    mantissa, exponent = np.frexp(x)
    low = mantissa < _ROOT
    f = np.where(low, 2 * mantissa, mantissa) - 1
    k = (exponent - low).astype(np.float64)
    s = f / (2 + f)
    z = s * s
    w = z * z
    odd = z * (_ODD[0] + w * (_ODD[1] + w * (_ODD[2] + w * _ODD[3])))
    rest = odd + w * (_EVEN[0] + w * (_EVEN[1] + w * _EVEN[2]))
    half = 0.5 * f * f
    found = k * _LN2_HIGH - ((half - (s * (half + rest) + k * _LN2_LOW)) - f)
    found = np.where(x > 0, found, np.where(x == 0, -np.inf, np.nan))
    return np.where(np.isposinf(x), np.inf, found)


def _near_one(x: np.ndarray) -> np.ndarray:
    """log(1 + x), with what rounding 1 + x lost put back."""
    y = 1 + x
    lost = np.where(np.abs(x) < 1, (x - (y - 1)) / y, 0.0)
    return np.where(y == 1, x, _log(y) + lost)


def _exp(x: np.ndarray) -> np.ndarray:
    """exp, for x up to 0."""
    x = np.maximum(x, _LEAST)
    k = np.rint(x / _LN2)
    high, low = x - k * _LN2_HIGH, k * _LN2_LOW
    r = high - low
    t = r * r
    c = r - t * (_EXP[0] + t * (_EXP[1] + t * (_EXP[2] + t * (_EXP[3] + t * _EXP[4]))))
    return np.ldexp(1 - ((low - (r * c) / (2 - c)) - high), k.astype(np.int32))


def _log_sum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    larger = np.maximum(a, b)
    found = larger + _near_one(_exp(np.minimum(a, b) - larger))
    return np.where(np.isfinite(larger), found, larger)
