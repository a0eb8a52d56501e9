"""Elementary functions in portable mode: from ``+ - * / sqrt``, tables and the bits of floats.

NumPy rounds each of these operations as IEEE 754 says and never fuses two of them, so a formula
written with them has the same bits everywhere. All functions compute in float64, for float32
arguments too: these are rounded once, at the end. The tables come from decimal arithmetic with 60
digits, which is an integer matter and portable as well.

An argument is cut down to a small one by tables (P. T. P. Tang's method), so that a short Taylor
series is enough. Where a float64 is too short for half a unit in the last place, a value is an
unevaluated sum ``high + low``.

Largest errors in units in the last place, by ``scripts/measure_ulp.py --stride 1009``: over 4,256,658
float32 values of all signs and exponents 0.500 for each function; over 2,000 random float64 values
exp 0.50, expm1 0.98, log and log1p 0.50, tanh 1.61, sigmoid 1.71, erf 0.93, erfc 2.56, sin and cos
0.68, rsqrt 1.43, power 0.51. Angles may have any size.

References
----------
.. [1] P. T. P. Tang, "Table-driven implementation of the exponential function in IEEE floating-point
   arithmetic", ACM TOMS 15(2), 1989; "... of the logarithm function ...", ACM TOMS 16(4), 1990.
.. [2] M. Payne, R. Hanek, "Radian reduction for trigonometric functions", SIGNUM Newsletter 18, 1983.
.. [3] T. J. Dekker, "A floating-point technique for extending the available precision", Numer. Math.
   18, 1971.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from decimal import Decimal, localcontext
from typing import Any

import numpy as np

from funcnn.numerics.twins import compiled_in
from funcnn.types import Array

_compiled = compiled_in(*["funcnn.numerics._compiled"] * 2)
# Measured in November 2026 on an AMD EPYC (Zen 4, two cores, AVX-512, 1 MiB of second-level cache):
# from 4096 to 2**16 the same within a fifth; chunks of 1024 take twice as long.
_CHUNK = 8192  # elements worked on at a time: some dozen arrays of them stay in the cache
_SHIFT = 1.5 * 2.0**52  # adding it rounds to an integer, which stands in the lowest bits of the sum
_SHIFT_BITS = int(np.float64(_SHIFT).view(np.int64))
_DIGITS = 60


def _parts(value: Decimal, *bits: int) -> tuple[float, ...]:
    """Cut into floats of so many bits each, and a last one of 53."""
    parts = []
    for width in bits:
        high = float(value)
        unit = 2.0 ** (math.frexp(high)[1] - width) if high else 1.0
        parts.append(round(high / unit) * unit)
        value -= Decimal(parts[-1])
    return (*parts, float(value))


def _columns(values: Sequence[tuple[float, ...]]) -> list[Array]:
    return [np.array(column) for column in zip(*values, strict=True)]


with localcontext() as _context:
    _context.prec = _DIGITS
    _TWO = Decimal(2)
    _LN2 = _TWO.ln()
    # 2**(j / 64), and ln 2 / 64 cut so that multiples up to 2**17 of the first part are exact.
    _ROOT, _ROOT_LOW = _columns([_parts(_TWO ** (Decimal(j) / 64), 53) for j in range(64)])
    _STEP, _STEP_LOW = _parts(_LN2 / 64, 36)
    # ln 2 and the logarithms of the centres, cut so that sums of their first parts are exact.
    _LN2_HIGH, _LN2_LOW = _parts(_LN2, 40)


# What of arrays has another form for numbers, see `_compiled`.
_clip, _where = np.clip, np.where


def _bits(x: Array) -> Array:
    return x.view(np.int64)


def _taken(table: Array, j: Array) -> Array:
    return table.take(j)


def _number(bits: Array) -> Array:
    return bits.view(np.float64)


def _everywhere(condition: Array) -> bool:
    return bool(condition.all())


def _polynomial(x: Array, coefficients: tuple[float, ...]) -> Array:
    """``c[0] + c[1] x + c[2] x**2 + ...`` (Horner)."""
    total = coefficients[-1] * x
    for c in coefficients[-2:0:-1]:
        total += c
        total *= x
    total += coefficients[0]
    return total


def _two_sum(x: Array | float, y: Array) -> tuple[Array, Array]:
    """``x + y``, rounded, and what was lost (Knuth): exact."""
    total = x + y
    tail = total - x
    return total, (x - (total - tail)) + (y - tail)


def _two_product(x: Array, y: Array) -> tuple[Array, Array]:
    """``x * y``, rounded, and what was lost (Dekker): exact below 2**970."""
    product = x * y
    a, b = x * 134217729.0, y * 134217729.0
    x_high, y_high = a - (a - x), b - (b - y)
    x_low, y_low = x - x_high, y - y_high
    low = ((x_high * y_high - product) + x_high * y_low + x_low * y_high) + x_low * y_low
    return product, low


@_compiled
def each(core: Callable[..., Array], out: Array, *lines: Array) -> Array:
    """A function of float64 arrays, on chunks."""
    with np.errstate(all="ignore"):
        for i in range(0, out.size, _CHUNK):
            chunk = [x[i : i + _CHUNK].astype(np.float64) for x in lines]
            out[i : i + _CHUNK] = core(*chunk)
    return out


def _elementwise(core: Callable[..., Array]) -> Callable[..., Array]:
    """Run a function of float64 arrays, and give back the dtype that came in.

    Compiled, the same function runs on one number after the other.
    """

    @functools.wraps(core)
    def function(*args: Any) -> Array:
        arrays = [np.asarray(x) for x in args]
        kind = np.result_type(*args)
        if kind.kind != "f":
            kind = np.dtype(np.float64)
        if len(arrays) > 1:
            arrays = list(np.broadcast_arrays(*arrays))
        order: Any = "F" if all(x.flags.f_contiguous for x in arrays) else "C"
        if len(arrays) == 1 and not (arrays[0].flags.forc):
            arrays[0] = arrays[0].copy(order="K")  # batch-last memory stays batch-last
            order = "K"
        out = np.empty_like(arrays[0], dtype=kind, order=order)
        flat = out.ravel(order=order)
        lines = [x.ravel(order=order) for x in arrays]
        each(core, flat, *lines)
        return out if out.ndim else out[()]

    return function


# --- exponentials ----------------------------------------------------------------------------------


def _power_of_two(n: Array) -> Array:
    return _number((n + 1023) << 52)


def _exp_parts(x: Array, x_low: Array | float = 0.0) -> tuple[Array, Array, Array]:
    """``(high, low, n)`` with ``exp(x + x_low) = (high + low) * 2**n``; `x` within -760..760."""
    shifted = x * (1 / (_STEP + _STEP_LOW)) + _SHIFT
    whole = shifted - _SHIFT
    r = ((x - whole * _STEP) - whole * _STEP_LOW) + x_low
    count = _bits(shifted) - _SHIFT_BITS
    j, n = count & 63, count >> 6
    p = r + r * r * _polynomial(r, (1 / 2, 1 / 6, 1 / 24, 1 / 120, 1 / 720))
    root = _taken(_ROOT, j)
    return root, _taken(_ROOT_LOW, j) + root * p, n


def _scale(x: Array, n: Array) -> Array:
    """``x * 2**n``, in two steps: so that a subnormal result is rounded once."""
    half = n >> 1
    x = x * _power_of_two(half)
    x *= _power_of_two(n - half)
    return x


def _exp(x: Array) -> Array:
    high, low, n = _exp_parts(_clip(x, -760.0, 760.0))
    return _scale(high + low, n)


def _expm1(x: Array) -> Array:
    """``e**x - 1 = ((high - 2**-n) + low) * 2**n``: the difference is exact where it cancels."""
    high, low, n = _exp_parts(_clip(x, -60.0, 760.0))
    one = _power_of_two(-np.minimum(n, 1000))
    return np.copysign(_scale((high - one) + low, n), x)


exp = _elementwise(_exp)
expm1 = _elementwise(_expm1)


@_elementwise
def sigmoid(x: Array) -> Array:
    """With ``e = exp(-|x|)``: ``1 / (1 + e)`` or ``e / (1 + e)``."""
    e = _exp(-np.abs(x))
    value: Array = _where(x < 0, e, 1.0) / (1 + e)
    return value


@_elementwise
def tanh(x: Array) -> Array:
    """With ``t = exp(2 |x|) - 1``: ``t / (t + 2)``."""
    t = _expm1(np.minimum(2 * np.abs(x), 60.0))
    value: Array = np.copysign(t / (t + 2), x)
    return value


# --- logarithms ------------------------------------------------------------------------------------

_LOG_FROM = int(np.float64(0.6875).view(np.int64))  # mantissas from here to 1.375: 1 is no border


def _log_tables() -> list[Array]:
    """For each of 128 slices of the mantissas: a centre of 10 bits and its logarithm."""
    edges = (np.arange(129, dtype=np.int64) << 45) + _LOG_FROM
    borders = edges.view(np.float64).tolist()
    rows: list[tuple[float, ...]] = []
    for low, high in itertools.pairwise(borders):
        centre = 1.0 if low <= 1 <= high else (low + high) / 2  # exact: log is relative there
        log = Decimal(centre).ln()
        first = round(log * 2**40) / 2**40
        rows.append((centre, first, float(log - Decimal(first))))
    return _columns(rows)


with localcontext() as _context:
    _context.prec = _DIGITS
    _CENTRE, _LOG_CENTRE, _LOG_CENTRE_LOW = _log_tables()


def _log_parts(x: Array) -> tuple[Array, Array]:
    """``log(x) = high + low`` to some 66 bits: ``x = 2**k * centre * (1 + r)``."""
    usual = (x >= 2.0**-1022) & (x < np.inf)
    everyday = _everywhere(usual)
    if not everyday:
        subnormal = (x > 0) & (x < 2.0**-1022)
        argument, x = x, _where(usual, x, _where(subnormal, x * 2.0**54, 1.0))
    bits = _bits(x)
    offset = bits - _LOG_FROM
    exponent, j = offset >> 52, (offset >> 45) & 127
    z = _number(bits - (exponent << 52))
    k = exponent * 1.0
    if not everyday:
        k -= _where(subnormal, 54.0, 0.0)
    centre = _taken(_CENTRE, j)
    difference = z - centre  # exact, as all that follows up to `rest`
    r = difference / centre
    split = r * 134217729.0
    head = split - (split - r)
    rest = (difference - head * centre) / centre
    high, lost = _two_sum(k * _LN2_HIGH + _taken(_LOG_CENTRE, j), head)
    high, lost_too = _two_sum(high, -0.5 * head * head)
    tail = _polynomial(r, (1 / 3, -1 / 4, 1 / 5, -1 / 6, 1 / 7, -1 / 8, 1 / 9, -1 / 10))
    low = rest - rest * head + r * r * r * tail
    low += (lost + lost_too) + (k * _LN2_LOW + _taken(_LOG_CENTRE_LOW, j))
    if not everyday:
        edge = _where(argument == 0, -np.inf, _where(argument > 0, np.inf, np.nan))
        known = usual | subnormal
        high, low = _where(known, high, edge), _where(known, low, 0.0)
    return high, low


@_elementwise
def log(x: Array) -> Array:
    """The sum of both parts."""
    high, low = _log_parts(x)
    return high + low


@_elementwise
def log1p(x: Array) -> Array:
    """With ``1 + x = u + lost``: ``log(u) + lost / u``."""
    u, lost = _two_sum(1.0, x)
    high, low = _log_parts(u)
    return np.copysign(_where(np.isfinite(high), high + (low + lost / u), high), x)


@_elementwise
def power(x: Array, y: Array) -> Array:
    """``exp(y log |x|)``, the logarithm in two parts; C99's rules for what is left."""
    high, low = _log_parts(np.abs(x))
    y_safe = _clip(y, -(2.0**900), 2.0**900)  # what is larger only gives 0, 1 or inf
    product, lost = _two_product(_where(np.isfinite(high), high, 0.0), y_safe)
    product = _where(np.isfinite(high), product, y * high)
    usual = np.abs(product) < 760
    lost = _where(usual, lost + y_safe * _where(usual, low, 0.0), 0.0)
    first, second, n = _exp_parts(_clip(product, -760.0, 760.0), lost)
    size = _scale(first + second, n)
    whole = np.floor(y) == y
    odd = whole & (np.abs(y) < 2.0**53) & (np.floor(y * 0.5) * 2 != y)
    size = _where((x < 0) & (x > -np.inf) & ~whole, np.nan, size)
    size = _where(odd, np.copysign(size, x), size)
    return _where((y == 0) | (x == 1) | ((x == -1) & np.isinf(y)), 1.0, size)


# --- angles ----------------------------------------------------------------------------------------


@functools.cache
def _pi(bits: int) -> int:
    """``floor(pi * 2**bits)``, by Machin's formula."""

    def arctan(n: int) -> int:
        term, total, k = one // n, 0, 1
        while term:
            total += term // k if k & 2 == 0 else -(term // k)
            term, k = term // (n * n), k + 2
        return total

    one = 1 << (bits + 16)
    return (16 * arctan(5) - 4 * arctan(239)) >> 16


with localcontext() as _context:
    _context.prec = _DIGITS
    _PI = Decimal(_pi(256)) / (1 << 256)
    _QUARTER = _parts(_PI / 2, 33, 33, 33)  # a right angle; multiples up to 2**20 are exact
    _LARGE = 2.0**20


def _reduce_large(x: float) -> tuple[int, float, float]:
    """Quadrant and rest of one angle, by as many digits of 2 / pi as it takes (Payne and Hanek)."""
    bits = 1200
    numerator, denominator = x.as_integer_ratio()
    turns = (numerator << (2 * bits + 1)) // (_pi(bits) * denominator)  # in units of 2**-bits
    quadrant = (turns + (1 << (bits - 1))) >> bits
    rest = (turns - (quadrant << bits)) * _pi(bits)  # in units of 2**(-2 bits - 1)
    unit = 1 << (2 * bits + 1)
    high = rest / unit
    numerator, denominator = high.as_integer_ratio()
    return quadrant & 3, high, (rest - numerator * (unit // denominator)) / unit


def _reduce(x: Array) -> tuple[Array, Array, Array]:
    """``x = quadrant * pi / 2 + high + low``, with ``|high| <= pi / 4``."""
    large = np.abs(x) > _LARGE
    any_large = bool(large.any())
    near = _where(large, 0.0, x) if any_large else x
    shifted = near * (2 / math.pi) + _SHIFT
    whole = shifted - _SHIFT
    first, second, third, fourth = _QUARTER
    high, lost = _two_sum(near - whole * first, -(whole * second))
    high, lost_too = _two_sum(high, -(whole * third))
    tail = (lost + lost_too) - whole * fourth
    total = high + tail
    low = (high - total) + tail
    quadrant = _bits(shifted) & 3
    if any_large:
        for i in np.flatnonzero(large):
            if np.isfinite(x[i]):
                quadrant[i], total[i], low[i] = _reduce_large(float(x[i]))
            else:
                total[i] = low[i] = np.nan
    return quadrant, total, low


_SINE = tuple((-1.0) ** k / math.factorial(2 * k + 1) for k in range(1, 10))
_COSINE = tuple((-1.0) ** k / math.factorial(2 * k) for k in range(2, 10))


def _sine(quadrant: Array, r: Array, low: Array) -> Array:
    """The sine of an angle that lies in this quadrant."""
    z = r * r
    sine = r + (r * z * _polynomial(z, _SINE) + low * (1 - 0.5 * z))
    half = 0.5 * z
    head = 1 - half
    cosine = head + (((1 - head) - half) + (z * z * _polynomial(z, _COSINE) - r * low))
    value = _where(quadrant & 1, cosine, sine)
    out: Array = _where(quadrant & 2, -value, value)
    return out


@_elementwise
def sin(x: Array) -> Array:
    """By the quadrant, the sine or the cosine of the rest."""
    quadrant, high, low = _reduce(x)
    return _where(x == 0, x, _sine(quadrant, high, low))


@_elementwise
def cos(x: Array) -> Array:
    """The sine of an angle one quadrant on."""
    quadrant, high, low = _reduce(x)
    return _sine(quadrant + 1, high, low)


# --- the rest --------------------------------------------------------------------------------------

_ERF_STEP = 32  # nodes per unit
_ERF_TERMS = 11


@functools.cache
def _erf_table() -> list[Array]:
    """Taylor coefficients of erf around the nodes j / 32 up to 6; last what the first one lost.

    With ``g = erf'``, ``g' = -2 x g`` gives the coefficients of g by recursion, and the series at
    one node gives the values at the next.
    """
    with localcontext() as context:
        context.prec = _DIGITS
        step, value, slope = 1 / Decimal(_ERF_STEP), Decimal(0), 2 / _PI.sqrt()
        rows = []
        for j in range(6 * _ERF_STEP + 1):
            centre = j * step
            slopes = [slope, -2 * centre * slope]
            for n in range(1, 40):
                slopes.append(-2 * (centre * slopes[n] + slopes[n - 1]) / (n + 1))
            series = [value, *(g / (n + 1) for n, g in enumerate(slopes))]
            row = [float(c) for c in series[:_ERF_TERMS]]
            rows.append((*row, float(value - Decimal(row[0]))))
            value = functools.reduce(lambda total, c: total * step + c, reversed(series))
            slope = functools.reduce(lambda total, g: total * step + g, reversed(slopes))
    return _columns(rows)


@_elementwise
def erf(x: Array) -> Array:
    """The Taylor series around the nearest node of a table."""
    *coefficients, lost = _erf_table()
    size = np.minimum(np.abs(x), 6.0)
    shifted = size * float(_ERF_STEP) + _SHIFT
    j = _clip(_bits(shifted) - _SHIFT_BITS, 0, 6 * _ERF_STEP)  # NaN of either sign: any node
    h = size - (shifted - _SHIFT) * (1 / _ERF_STEP)
    total = _taken(coefficients[-1], j)
    for column in coefficients[-2:0:-1]:
        total = total * h + _taken(column, j)
    return np.copysign(_taken(coefficients[0], j) + (total * h + _taken(lost, j)), x)


# (1 + 2 x) exp(x**2) erfc(x) for x >= 0, by powers of (x - 3.75) / (x + 3.75): Chebyshev's series up to
# where its terms fall below 1e-17, from values with 40 digits; the last is 1e-16 lower, which makes
# erfc(0) exactly 1
_ERFC = (
    1.2375126308378275, -0.14024059858554702, 0.0035854154854644336, 0.08227673849015106,
    -0.10880393014174908, 0.09230432116019706, -0.05869339858963237, 0.02836227742153516,
    -0.009746579558074462, 0.0017556258322549499, 0.00029371366586371044, -0.00029015397841442746,
    5.1649097856632777e-05, 2.2383909046921704e-05, -1.1444143654153395e-05, -9.728427455116312e-07,
    1.7516333675960307e-06, -5.82733627019168e-08, -2.5866383785495833e-07, 2.4300608292272045e-08,
    3.8672115463443784e-08, -4.396394482220484e-09, -5.1727195227450715e-09, 5.484048676299325e-10,
    4.249283161020507e-10, -3.7977979853946843e-11,
)  # fmt: skip


@_elementwise
def erfc(x: Array) -> Array:
    """``exp(-x**2)``, its argument in two parts, times a smooth function; 2 less that below 0."""
    size = np.minimum(np.abs(x), 30.0)
    square, lost = _two_product(size, size)
    high, low, n = _exp_parts(np.maximum(-square, -760.0), -lost)
    tail = _polynomial((size - 3.75) / (size + 3.75), _ERFC) / (1 + 2 * size)
    tail = _scale((high + low) * tail, n)
    return _where(x < 0, 2 - tail, tail)


@_elementwise
def _sech2(x: Array) -> Array:
    """With ``e = exp(-2 |x|)``: ``4 e / (1 + e)**2``."""
    e = _exp(-2 * np.abs(x))
    value: Array = 4 * e / ((1 + e) * (1 + e))
    return value


def tanh_slope(x: Array) -> Array:
    """``1 - y**2``; where little is left of it, beyond ``|x| = 5``, a formula without a difference."""
    y = tanh(x)
    slope = np.asarray(1 - y * y)
    far = np.abs(x) > 5
    if far.any():
        np.copyto(slope, _sech2(x), where=far)
    return slope


@_elementwise
def rsqrt(x: Array) -> Array:
    """A square root and a division, both rounded correctly by every machine."""
    return 1 / np.sqrt(x)
