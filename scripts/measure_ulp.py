"""Measure the largest error of the portable functions, in units in the last place.

    scripts/measure_ulp.py              # every 4,099th of the 2**32 float32 values: about a million
    scripts/measure_ulp.py --stride 101 # more of them
    scripts/measure_ulp.py --all        # every one: hours

The reference for float32 is the platform's float64 function, whose own error is below 1e-8 of a
float32 unit. For float64 it is decimal arithmetic with 50 digits, on random arguments.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any

import numpy as np

from funcnn import numerics
from funcnn.types import Array

_BLOCK = 1 << 20
_erf: Any = np.frompyfunc(math.erf, 1, 1)
_erfc: Any = np.frompyfunc(math.erfc, 1, 1)


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def _rsqrt(x: Array) -> Array:
    return np.asarray(1 / np.sqrt(x))


REFERENCES: dict[str, Callable[[Array], Any]] = {
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "erf": lambda x: _erf(x).astype(np.float64),
    "erfc": lambda x: _erfc(x).astype(np.float64),
    "sin": np.sin,
    "cos": np.cos,
    "rsqrt": _rsqrt,
}


def error_in_ulp(found: Array, truth: Array) -> Array:
    """How far float32 values are from float64 ones; 0 where both are NaN or the same infinity."""
    exponent = np.frexp(truth)[1]
    unit = np.ldexp(1.0, np.maximum(exponent - 24, -149))
    # A result of 2**128 and more must be infinite: that is where the next float32 would be.
    limit = 2.0**128
    capped = np.clip(found.astype(np.float64), -limit, limit)
    error = np.abs(capped - np.clip(truth, -limit, limit)) / unit
    same = (np.isnan(found) & np.isnan(truth)) | (found == truth)
    return np.where(same, 0.0, np.where(np.isnan(error), np.inf, error))


def measure_float32(name: str, stride: int) -> tuple[float, float, int]:
    """Largest error, the argument where it occurs, and how many arguments were tried."""
    worst, place, count = 0.0, 0.0, 0
    for start in range(0, 1 << 32, _BLOCK * stride):
        stop = min(start + _BLOCK * stride, 1 << 32)
        x = np.arange(start, stop, stride, dtype=np.uint64).astype(np.uint32).view(np.float32)
        with np.errstate(all="ignore"), numerics.portable():
            found = getattr(numerics, name)(x)
            error = error_in_ulp(found, REFERENCES[name](x.astype(np.float64)))
        most = int(np.argmax(error))
        if error[most] > worst:
            worst, place = float(error[most]), float(x[most])
        count += x.size
    return worst, place, count


# --- float64, against decimals -------------------------------------------------------------------


def _decimal_sine(x: Decimal) -> Decimal:
    """The Taylor series; for small `x`."""
    term = total = x
    n = 1
    while abs(term) > Decimal("1e-60"):
        term *= -x * x / ((n + 1) * (n + 2))
        total, n = total + term, n + 2
    return total


def _decimal_erf(x: Decimal) -> Decimal:
    """``2 / sqrt(pi) exp(-x**2) sum of 2**n x**(2n+1) / (1 3 5 ...)``."""
    term = total = x
    n = 0
    while abs(term) > Decimal("1e-60"):
        n += 1
        term *= 2 * x * x / (2 * n + 1)
        total += term
    return 2 / _PI.sqrt() * (-x * x).exp() * total


_PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899")
DECIMALS: dict[str, tuple[Callable[[Decimal], Decimal], float, float]] = {
    "exp": (lambda x: x.exp(), -700.0, 700.0),
    "expm1": (lambda x: x.exp() - 1, -3.0, 3.0),
    "log": (lambda x: x.ln(), 0.01, 100.0),
    "log1p": (lambda x: (1 + x).ln(), -0.9, 3.0),
    "tanh": (lambda x: 1 - 2 / ((2 * x).exp() + 1), -3.0, 3.0),
    "sigmoid": (lambda x: 1 / (1 + (-x).exp()), -30.0, 30.0),
    "erf": (_decimal_erf, -4.0, 4.0),
    "erfc": (lambda x: 1 - _decimal_erf(x), -4.0, 8.0),
    "sin": (_decimal_sine, -20.0, 20.0),
    "cos": (lambda x: _decimal_sine(x + _PI / 2), -20.0, 20.0),
    "rsqrt": (lambda x: 1 / x.sqrt(), 0.01, 100.0),
}


def measure_float64(name: str, count: int) -> float:
    """Largest error over random arguments of everyday size."""
    function, low, high = DECIMALS[name]
    x = np.random.default_rng(0).uniform(low, high, count)
    with numerics.portable():
        found = getattr(numerics, name)(x)
    worst = 0.0
    with localcontext() as context:
        context.prec = 70
        for argument, value in zip(x.tolist(), found.tolist(), strict=True):
            truth = function(Decimal(argument))
            unit = Decimal(math.ulp(float(truth)))
            worst = max(worst, float(abs(Decimal(value) - truth) / unit))
    return worst


def measure_power(count: int) -> tuple[float, float]:
    """Largest errors of `power`, in float32 and float64, over random arguments."""
    rng = np.random.default_rng(0)
    x, y = np.exp(rng.uniform(-5, 5, count)), rng.uniform(-17, 17, count)
    with numerics.portable():
        x32, y32 = x.astype(np.float32), y.astype(np.float32)
        truth = np.power(x32.astype(np.float64), y32.astype(np.float64))
        single = float(error_in_ulp(numerics.power(x32, y32), truth).max())
        x, y = x[:2000], y[:2000] * 8
        found = numerics.power(x, y)
    double = 0.0
    with localcontext() as context:
        context.prec = 50
        for base, exponent, value in zip(x.tolist(), y.tolist(), found.tolist(), strict=True):
            exact = (Decimal(base).ln() * Decimal(exponent)).exp()
            double = max(double, float(abs(Decimal(value) - exact) / Decimal(math.ulp(value))))
    return single, double


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--stride", type=int, default=4099, help="every how manieth float32")
    parser.add_argument("--all", action="store_true", help="every float32")
    parser.add_argument("--double", type=int, default=2000, help="how many float64")
    parser.add_argument("functions", nargs="*", default=list(REFERENCES), metavar="function")
    options = parser.parse_args()
    stride = 1 if options.all else options.stride
    print("function  float32 tried   max ulp          at      float64 tried  max ulp   seconds")
    for name in options.functions:
        began = time.perf_counter()
        worst, place, count = measure_float32(name, stride)
        double = measure_float64(name, options.double)
        seconds = time.perf_counter() - began
        print(
            f"{name:8} {count:14,} {worst:9.6f}  {place:14.7g} {options.double:12,} {double:9.3f}"
            f" {seconds:9.1f}",
            flush=True,
        )
    single, double = measure_power(1_000_000)
    print(f"{'power':8} {1_000_000:14,} {single:9.6f}  {'':14} {2000:12,} {double:9.3f}")


if __name__ == "__main__":
    main()
