"""Functions of one number, which loops vectorise: for compiled kernels alone.

In float32 they are polynomials behind a reduction of the range, and right to 2.3 units in the last
place; in float64 they are the system's own. Infinity and NaN come out as NumPy has them. The method is
that of J.-M. Muller, "Elementary functions", 2016; the coefficients are fitted by reweighted least
squares of the relative error.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from funcnn.numerics.jit import Inlined, Later, inlined, intrinsic

ir: Any = Later("llvmlite.ir")
types: Any = Later("numba.core.types")
extending: Any = Later("numba.extending")

# No sum may be reordered here: what is small is what another has lost.
_OPTIONS: dict[str, Any] = {"error_model": "numpy", "fastmath": {"contract"}, "forceinline": True}
_one = np.float32


def scalar(function: Any) -> Any:
    """Let loops of compiled kernels contain a function of numbers."""
    return inlined(function, nogil=False, **_OPTIONS)


_LOG2E = _one(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = _one(0.693359375), _one(-2.12194440054690583e-4)  # the first has 9 bits
_MOST, LEAST = _one(89), _one(-170)  # beyond, the exponential is infinity, and 0 even 1e28 times
# (exp(r) - 1 - r) / r^2 up to |r| = log(2) / 2
_E0, _E1, _E2, _E3, _E4 = map(_one, (
    0.4999999403953552, 0.16666515171527863, 0.04166845604777336, 0.008369418792426586,
    0.0013813142431899905,
))  # fmt: skip
# (tanh(x) / x - 1) / x^2 up to |x| = 0.55, by powers of x^2
_T0, _T1, _T2, _T3, _T4 = map(_one, (
    -0.33333316445350647, 0.13332585990428925, -0.05385230854153633, 0.021071674302220345,
    -0.006274233106523752,
))  # fmt: skip
_NEAR = _one(0.55)
# (1 + 2 x) exp(x^2) erfc(x) for x >= 0, by powers of (x - 3) / (x + 3), from the highest
_C13, _C12, _C11, _C10, _C9, _C8, _C7, _C6, _C5, _C4, _C3, _C2, _C1, _C0 = map(_one, (
    -1.1107230027933141e-05, 3.861849136839874e-06, 0.0001132462398315594, -0.00010413071427975631,
    -0.0007713736760225472, 0.0018881128646091804, 0.002526068867800054, -0.023770334675484502,
    0.06830870677166787, -0.11927369132068086, 0.12964509696901552, -0.04756229269565379,
    -0.13562110449402126, 1.2530080582534238,
))  # fmt: skip
# (atanh(t) / t - 1) / t^2 up to |t| = 1/3, by powers of t^2
_L0, _L1, _L2, _L3 = map(_one, (
    0.3333320915699005, 0.2001074254512787, 0.14001290500164032, 0.14003890752792358,
))  # fmt: skip
# (1 - tanh(x) / x) / x^2 up to |x| = 1, by powers of x^2
_S0, _S1, _S2, _S3, _S4, _S5, _S6, _S7 = map(_one, (
    0.3333333432674408, -0.13333310186862946, 0.053963419049978256, -0.02182958461344242,
    0.008697949349880219, -0.003206950845196843, 0.0009236072073690593, -0.0001428233808837831,
))  # fmt: skip
_0, _1, _2, _3 = map(_one, (0, 1, 2, 3))
_FAR = _one(30)


@intrinsic
def scaled(context: Any, p: Any, k: Any) -> Any:
    """``p 2**k`` for a whole `k` from -246 to 129, in two steps, so that no factor overflows."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value, exponent = args
        word = ir.IntType(32)
        known = builder.fcmp_ordered("ord", exponent, exponent)
        whole = builder.fptosi(builder.select(known, exponent, ir.Constant(exponent.type, 0)), word)
        half = builder.ashr(whole, ir.Constant(word, 1))
        for part in (half, builder.sub(whole, half)):
            bits = builder.shl(builder.add(part, ir.Constant(word, 127)), ir.Constant(word, 23))
            value = builder.fmul(value, builder.bitcast(bits, ir.FloatType()), flags=("contract",))
        return value

    return types.float32(types.float32, types.float32), generate


@intrinsic
def _halved(context: Any, x: Any) -> Any:
    """``2**-k`` and `k`, with which ``x 2**-k`` is from 3/4 to 3/2, for `x` from 1 to 2**126."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        single, word = ir.FloatType(), ir.IntType(32)
        above = builder.sub(builder.bitcast(args[0], word), ir.Constant(word, 0x3F400000))  # 3/4
        whole = builder.ashr(above, ir.Constant(word, 23))
        bits = builder.sub(ir.Constant(word, 127), whole)
        factor = builder.bitcast(builder.shl(bits, ir.Constant(word, 23)), single)
        return context.make_tuple(
            builder, signature.return_type, (factor, builder.sitofp(whole, single))
        )

    return types.UniTuple(types.float32, 2)(types.float32), generate


@intrinsic
def larger(context: Any, a: Any, b: Any) -> Any:
    """The larger of two numbers; of NaN, any. Loops over it vectorise, as over no condition."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = args[0].type
        maximum = ir.FunctionType(kind, [kind, kind])
        function = builder.module.declare_intrinsic("llvm.maxnum", [kind], maximum)
        return builder.call(function, args, fastmath=("nnan", "nsz"))

    return a(a, a), generate


def _either(single: Any, double: Any) -> Any:
    """One function for float32, and another for float64."""

    def make() -> Any:
        def function(x: Any) -> Any:
            pass

        def chosen(x: Any) -> Any:
            return single if x == types.float32 else double

        extending.overload(function, jit_options=_OPTIONS)(chosen)
        return function

    return Inlined(make)


@scalar
def _split(x: Any) -> Any:
    """``m`` and ``k`` of ``exp(x) = (1 + m) 2**k``, in float32."""
    x = _MOST if x > _MOST else x  # NaN stays
    x = LEAST if x < LEAST else x
    k = np.rint(x * _LOG2E)
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    q = _E0 + r * (_E1 + r * (_E2 + r * (_E3 + r * _E4)))
    return r + r * r * q, k


@scalar
def power(x: Any) -> Any:
    """``p`` and ``k`` of ``exp(x) = p 2**k``, in float32: see `scaled`."""
    m, k = _split(x)
    return _1 + m, k


@scalar
def expm1(x: Any) -> Any:
    """``exp(x) - 1`` for `x` up to 0, in float32."""
    m, k = _split(x)
    size = scaled(_1, k)
    return size * m + (size - _1)


@scalar
def tanh_rest(x: Any) -> Any:
    """``x - tanh(x)`` up to ``|x| = 1``, in float32."""
    s = x * x
    high = _S4 + s * (_S5 + s * (_S6 + s * _S7))
    return x * (s * (_S0 + s * (_S1 + s * (_S2 + s * (_S3 + s * high)))))


def _exp(x: Any) -> Any:
    p, k = power(x)
    return scaled(p, k)


def _tanh(x: Any) -> Any:
    size, square = abs(x), x * x
    p = _T0 + square * (_T1 + square * (_T2 + square * (_T3 + square * _T4)))
    far = _1 - _2 / (exp(size + size) + _1)
    far = -far if x < _0 else far
    near = x + x * square * p if size > _0 else x  # 0 keeps its sign
    return far if size >= _NEAR else near


@scalar
def erfc_and_power(x: Any) -> Any:
    """``erfc(x)`` and, up to ``|x| = 30``, ``exp(-x^2)``, in float32."""
    size = abs(x)
    size = _FAR if size > _FAR else size
    t = (size - _3) / (size + _3)
    high = ((((_C13 * t + _C12) * t + _C11) * t + _C10) * t + _C9) * t + _C8
    middle = ((((high * t + _C7) * t + _C6) * t + _C5) * t + _C4) * t + _C3
    tail = ((middle * t + _C2) * t + _C1) * t + _C0
    e = exp(-(size * size))
    tail = tail * e / (_2 * size + _1)
    return _2 - tail if x < _0 else tail, e


def _erfc(x: Any) -> Any:
    return erfc_and_power(x)[0]


@scalar
def log1p(x: Any) -> Any:
    """``log(1 + x)`` for `x` from -1/4 to 1, in float32: ``2 atanh(t)`` with ``t = x / (2 + x)``."""
    t = x / (_2 + x)
    square = t * t
    p = square * (_L0 + square * (_L1 + square * (_L2 + square * _L3)))
    return (t + t) + (t + t) * p


def _log1p32(x: Any) -> Any:
    s, k = _halved(_1 + x)
    return k * _LN2_HIGH + (log1p(s * x + (s - _1)) + k * _LN2_LOW)


def _log1p64(x: Any) -> Any:
    return np.log1p(x)


def _exp64(x: Any) -> Any:
    return np.exp(x)


def _erfc64(x: Any) -> Any:
    return math.erfc(x)


def _tanh64(x: Any) -> Any:
    return np.tanh(x)


def _sigmoid32(x: Any) -> Any:
    e = exp(-abs(x))
    return (e if x < _0 else _1) / (_1 + e)


def _sigmoid64(x: Any) -> Any:
    e = np.exp(-abs(x))
    return (e if x < 0 else 1.0) / (1 + e)


exp = _either(_exp, _exp64)
"""The exponential: ``2**k exp(r)`` with ``x = k log(2) + r``."""
tanh = _either(_tanh, _tanh64)
"""The hyperbolic tangent: a polynomial near 0, or else by the exponential."""
sigmoid = _either(_sigmoid32, _sigmoid64)
"""The logistic function: ``1 / (1 + e)`` or, below 0, ``e / (1 + e)`` with ``e = exp(-|x|)``."""
erfc = _either(_erfc, _erfc64)
"""``1 - erf(x)``, to ``4 + x^2`` units in the last place; the same series as of NumPy's kernels."""
log1p_from_0 = _either(_log1p32, _log1p64)
"""``log(1 + x)`` for `x` from 0 on: with ``1 + x = 2**k (1 + f)``, from -1/4 to 1/2, by that of `f`."""
