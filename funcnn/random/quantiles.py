"""Quantiles of the normal distribution, by ``+ - * /`` and `sqrt` alone.

References
----------
M. J. Wichura (1988). Algorithm AS 241: the percentage points of the normal distribution.
Applied Statistics 37 (3).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from funcnn.types import Array

# Wichura's rational functions, highest power first: numerator and denominator. AS 241 gives one set
# for 16 digits (PPND16) and one for 7 (PPND7).
_Rational = tuple[tuple[float, ...], tuple[float, ...]]
_CENTRE: _Rational = (
    (2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4,
     4.5921953931549871457e4, 1.3731693765509461125e4, 1.9715909503065514427e3,
     1.3314166789178437745e2, 3.3871328727963666080e0),
    (5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4,
     2.1213794301586595867e4, 5.3941960214247511077e3, 6.8718700749205790830e2,
     4.2313330701600911252e1, 1.0),
)  # fmt: skip
CENTRE_SINGLE: _Rational = (
    (5.9109374720e1, 1.5929113202e2, 5.0434271938e1, 3.3871327179e0),
    (6.7187563600e1, 7.8757757664e1, 1.7895169469e1, 1.0),
)
_TAIL: _Rational = (
    (7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1,
     1.27045825245236838258e0, 3.64784832476320460504e0, 5.76949722146069140550e0,
     4.63033784615654529590e0, 1.42343711074968357734e0),
    (1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2,
     1.48103976427480074590e-1, 6.89767334985100004550e-1, 1.67638483018380384940e0,
     2.05319162663775882187e0, 1.0),
)  # fmt: skip
TAIL_SINGLE: _Rational = (
    (1.7023821103e-1, 1.3067284816e0, 2.7568153900e0, 1.4234372777e0),
    (1.2021132975e-1, 7.3700164250e-1, 1.0),
)
_FAR_TAIL: _Rational = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3,
     2.65321895265761230930e-2, 2.96560571828504891230e-1, 1.78482653991729133580e0,
     5.46378491116411436990e0, 6.65790464350110377720e0),
    (2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5,
     7.86869131145613259100e-4, 1.48753612908506148525e-2, 1.36929880922735805310e-1,
     5.99832206555887937690e-1, 1.0),
)  # fmt: skip
CENTRAL = 0.425  # the centre reaches this far from the median, in probability
LOG2 = 0.69314718055994530942
ROOT_HALF_SINGLE = 0x3F3504F3  # the bits of sqrt(0.5)
# log((1 + s) / (1 - s)) / s by powers of s**2: 2 (1 + s**2 / 3 + s**4 / 5 + ...)
_LOG, LOG_SINGLE = (tuple(2.0 / power for power in range(last, 0, -2)) for last in (19, 9))


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    """Horner's rule, in the dtype of `x`."""
    kind = x.dtype.type
    value: Array = x * kind(coefficients[0])
    for coefficient in coefficients[1:-1]:
        value += kind(coefficient)
        value *= x
    value += kind(coefficients[-1])
    return value


def _ratio(rational: _Rational, x: Array) -> Array:
    value = _polynomial(rational[0], x)
    value /= _polynomial(rational[1], x)
    return value


def minus_log(p: Array) -> Array:
    """``-log(p)`` of positive normal numbers, without the C library's logarithm."""
    if p.dtype == np.float64:
        bits, shift, root_half, series = p.view(np.int64), 52, 0x3FE6A09E667F3BCD, _LOG
    else:
        bits, shift, root_half, series = p.view(np.int32), 23, ROOT_HALF_SINGLE, LOG_SINGLE
    exponent = (bits - root_half) >> shift
    m = (bits - (exponent << shift)).view(p.dtype)  # sqrt(0.5) <= m < sqrt(2), p = m 2**exponent
    s = (m - 1) / (m + 1)  # s**2 < 0.03
    log_m = s * _polynomial(series, s * s)
    log_p: Array = exponent.astype(p.dtype) * p.dtype.type(LOG2) + log_m
    return -log_p


def _tail_quantile(p: Array) -> Array:
    """How far from 0 a tail of probability `p` begins, where p < 0.5 - `CENTRAL`."""
    r = np.sqrt(minus_log(p))
    if p.dtype == np.float32:
        return _ratio(TAIL_SINGLE, r - np.float32(1.6))
    z = _ratio(_TAIL, r - 1.6)
    far = np.flatnonzero(r > 5.0)
    if far.size:
        z[far] = _ratio(_FAR_TAIL, r[far] - 5.0)
    return z


def in_tails(q: Array) -> Array:
    """Where `q`, the probability between the median and the quantile, leaves the centre."""
    return np.flatnonzero(np.abs(q) > q.dtype.type(CENTRAL))


def quantile(q: Array, tails: Array, p: Array) -> Array:
    """The normal quantile of ``0.5 + q``; `p` is ``0.5 - abs(q)``, at `tails` only."""
    single = q.dtype == np.float32
    r = q.dtype.type(CENTRAL * CENTRAL) - q * q
    z = _ratio(CENTRE_SINGLE if single else _CENTRE, r)
    z *= q
    z[tails] = np.copysign(_tail_quantile(p), q[tails])
    return z


@lru_cache(maxsize=64)
def beyond(x: float) -> float:
    """The probability beyond ``x >= 0``: the least one whose quantile is at most `x`."""
    # The bits of positive floats are ordered as the floats are: bisect them.
    ends = np.array([1e-300, 0.5]).view(np.int64)
    least, most = int(ends[0]), int(ends[1])
    while least < most:
        middle = (least + most) // 2
        p = np.array([middle], np.int64).view(np.float64)
        tails = in_tails(0.5 - p)
        if quantile(0.5 - p, tails, p[tails])[0] > x:
            least = middle + 1
        else:
            most = middle
    return float(np.array([least], np.int64).view(np.float64)[0])
