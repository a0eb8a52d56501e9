"""Normalization of groups that lie side by side in memory, a lane for each: what `compiled` runs.

Lanes, rows and chunks are counted over all groups. Where there are many, each is done as a whole,
while it is in the cache; or else its parts are shared, with the same bits.
"""

from __future__ import annotations

import numpy as np

from funcnn.numerics.handover import divided
from funcnn.numerics.jit import In, Out, Wide, inlined, kernel

ROWS = 32  # of a chunk, whose sums are in their own dtype: how exact they are, and not how fast


@inlined
def _fold(row: In, total: Wide) -> None:
    """To the sums of lanes."""
    for start in range(0, len(row), len(total)):
        part = row[start : start + len(total)]
        for k in range(len(total)):
            total[k] += part[k]


@inlined
def _spread(lanes: In, row: Out) -> None:
    for start in range(0, len(row), len(lanes)):
        part = row[start : start + len(lanes)]
        for k in range(len(lanes)):
            part[k] = lanes[k]


def join(out: Out, totals: Wide, lanes: int, chunks: int, count: int, low: int, high: int) -> None:
    """The mean of each lane of each group, from sums of its chunks."""
    for g in range(low, high):
        first, total = g // lanes * chunks * lanes + g % lanes, 0.0
        for c in range(chunks):
            total += totals[first + c * lanes]
        out[g] = total / count


def join_slopes(
    rstd: In, scale: In, totals: Wide, dots: Wide, slopes: Out, shares: Out, middle: Out,
    weighted: Out, total: Out, chunks: int, count: int, centred: int, low: int, high: int,
) -> None:  # fmt: skip
    """The same of gradients: what `slopes_of_lanes` wants, and what a scale of a lane adds up."""
    lanes = len(scale)
    for g in range(low, high):
        first, plain, product, r = g // lanes * chunks * lanes + g % lanes, 0.0, 0.0, rstd[g]
        for c in range(chunks):
            plain += totals[first + c * lanes]
            product += dots[first + c * lanes]
        slopes[g] = r * scale[g % lanes]
        shares[g] = product * slopes[g] * (r / count * r)
        middle[g] = plain * slopes[g] / count if centred else 0.0
        weighted[g], total[g] = product * r, plain


def sums_of_lanes(x: In, totals: Wide, lanes: int, wide: int, rows: int, low: int, high: int) -> None:
    chunks, part = -(-rows // ROWS), np.empty(wide, x.dtype)
    for j in range(low, high):
        g, c = divmod(j, chunks)
        total = totals[j * lanes : (j + 1) * lanes]
        total[:] = 0
        part[:] = 0
        for i in range(g * rows + c * ROWS, g * rows + min((c + 1) * ROWS, rows)):
            row = x[i * wide : (i + 1) * wide]
            for k in range(wide):
                part[k] += row[k]
        _fold(part, total)


def squares_of_lanes(
    x: In, mean: In, offset: Out, totals: Wide, lanes: int, wide: int, rows: int, low: int, high: int
) -> None:
    chunks = -(-rows // ROWS)
    part, centre = np.empty((2, wide), x.dtype)
    for j in range(low, high):
        g, c = divmod(j, chunks)
        total = totals[j * lanes : (j + 1) * lanes]
        _spread(mean[g * lanes : (g + 1) * lanes], centre)
        total[:] = 0
        part[:] = 0
        for i in range(g * rows + c * ROWS, g * rows + min((c + 1) * ROWS, rows)):
            row, rest = x[i * wide : (i + 1) * wide], offset[i * wide : (i + 1) * wide]
            for k in range(wide):
                difference = row[k] - centre[k]
                rest[k] = difference
                part[k] += difference * difference
        _fold(part, total)


def sums_of_slopes(
    slope: In, offset: In, rstd: In, scale: In, totals: Wide, dots: Wide, weighted: Out, total: Out,
    lanes: int, wide: int, rows: int, low: int, high: int,
) -> None:  # fmt: skip
    """Of each lane with the scales of rows, and of each row by itself."""
    chunks = -(-rows // ROWS)
    roots, some, others = np.empty((3, wide), slope.dtype)
    zero = slope.dtype.type(0)
    for j in range(low, high):
        g, c = divmod(j, chunks)
        sums, products = totals[j * lanes : (j + 1) * lanes], dots[j * lanes : (j + 1) * lanes]
        _spread(rstd[g * lanes : (g + 1) * lanes], roots)
        sums[:] = 0
        products[:] = 0
        some[:] = 0
        others[:] = 0
        first, last = g * rows + c * ROWS, g * rows + min((c + 1) * ROWS, rows)
        for i in range(first, last - 1, 2):  # sums of lanes are read and written for two at a time
            here, after = slice(i * wide, (i + 1) * wide), slice((i + 1) * wide, (i + 2) * wide)
            d, rest, e, more = slope[here], offset[here], slope[after], offset[after]
            factor, second = scale[i], scale[i + 1]
            product = plain = other = single = zero
            for k in range(wide):
                a, b = d[k] * rest[k], e[k] * more[k]
                some[k] += factor * d[k] + second * e[k]
                others[k] += factor * a + second * b
                product += a * roots[k]
                other += b * roots[k]
                plain += d[k]
                single += e[k]
            weighted[i], total[i], weighted[i + 1], total[i + 1] = product, plain, other, single
        if (last - first) % 2:
            i, factor = last - 1, scale[last - 1]
            product = plain = zero
            d, rest = slope[i * wide : (i + 1) * wide], offset[i * wide : (i + 1) * wide]
            for k in range(wide):
                a = d[k] * rest[k]
                some[k] += factor * d[k]
                others[k] += factor * a
                product += a * roots[k]
                plain += d[k]
            weighted[i], total[i] = product, plain
        _fold(some, sums)
        _fold(others, products)


def slopes_of_lanes(
    slope: In, offset: In, slopes: In, scale: In, shares: In, middle: In, dx: Out,
    lanes: int, wide: int, rows: int, low: int, high: int,
) -> None:  # fmt: skip
    a, b, c = np.empty((3, wide), slope.dtype)
    for i in range(low, high):
        if i % rows == 0 or i == low:
            own = slice(i // rows * lanes, (i // rows + 1) * lanes)
            _spread(slopes[own], a)
            _spread(shares[own], b)
            _spread(middle[own], c)
        here, factor = slice(i * wide, (i + 1) * wide), scale[i]
        d, rest, out = slope[here], offset[here], dx[here]
        for k in range(wide):
            out[k] = factor * a[k] * d[k] - b[k] * rest[k] - c[k]


@divided
def scaled_lanes(
    offset: In, rstd: In, factors: In, shifts: In, scale: In, bias: In, out: Out,
    lanes: int, wide: int, rows: int, low: int, high: int,
) -> None:  # fmt: skip
    roots, more, root = np.empty((3, wide), offset.dtype)
    _spread(shifts, more)
    for i in range(low, high):
        if i % rows == 0 or i == low:
            for k in range(lanes):
                root[k] = rstd[i // rows * lanes + k] * factors[k]
            _spread(root[:lanes], roots)
        rest, values = offset[i * wide : (i + 1) * wide], out[i * wide : (i + 1) * wide]
        factor, shift = scale[i], bias[i]
        for k in range(wide):
            values[k] = rest[k] * roots[k] * factor + (shift + more[k])


_sums, _squares, _join = inlined(sums_of_lanes), inlined(squares_of_lanes), inlined(join)
_slope_sums, _slopes = inlined(sums_of_slopes), inlined(slopes_of_lanes)
_join_slopes = inlined(join_slopes)


@divided
def deviations_of_groups(
    x: In, offset: Out, mean: Out, variance: Out, totals: Wide, lanes: int, wide: int, rows: int,
    chunks: int, count: int, low: int, high: int,
) -> None:  # fmt: skip
    for g in range(low, high):
        first, last, lane, end = g * chunks, (g + 1) * chunks, g * lanes, (g + 1) * lanes
        _sums(x, totals, lanes, wide, rows, first, last)
        _join(mean, totals, lanes, chunks, count, lane, end)
        _squares(x, mean, offset, totals, lanes, wide, rows, first, last)
        _join(variance, totals, lanes, chunks, count, lane, end)


@divided
def gradients_of_groups(
    slope: In, offset: In, rstd: In, scale: In, of_lanes: In, totals: Wide, dots: Wide,
    weighted: Out, total: Out, slopes: Out, shares: Out, middle: Out, products: Out, plain: Out,
    dx: Out, lanes: int, wide: int, rows: int, chunks: int, count: int, centred: int,
    low: int, high: int,
) -> None:  # fmt: skip
    for g in range(low, high):
        _slope_sums(
            slope, offset, rstd, scale, totals, dots, weighted, total, lanes, wide, rows,
            g * chunks, (g + 1) * chunks,
        )  # fmt: skip
        _join_slopes(
            rstd, of_lanes, totals, dots, slopes, shares, middle, products, plain, chunks, count,
            centred, g * lanes, (g + 1) * lanes,
        )  # fmt: skip
        _slopes(
            slope, offset, slopes, scale, shares, middle, dx, lanes, wide, rows,
            g * rows, (g + 1) * rows,
        )  # fmt: skip


shared_sums, shared_squares = divided(sums_of_lanes), divided(squares_of_lanes)
shared_slope_sums, shared_slopes = divided(sums_of_slopes), divided(slopes_of_lanes)
joined, joined_slopes = kernel(join), kernel(join_slopes)
