"""Rules for sequences, images and volumes made larger or smaller: see `loading_rules`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from funcnn import checks
from funcnn.checks import shown
from funcnn.interop.onnx.loading_values import Node, Wire
from funcnn.interop.onnx.loading_windows import alike, channels_last, floats
from funcnn.layers import upsample
from funcnn.types import Array

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def _given(node: Node, wire: Wire, old: bool) -> tuple[str, Array]:
    """A scale or a size for each axis; those that `axes` leaves out stay."""
    scales, sizes = node.stored(1 if old else 2), node.stored(3)
    word, found = ("size", sizes) if scales is None or scales.size == 0 else ("scale", scales)
    axes = node.option("axes", ())
    if found is not None and axes and len(axes) == found.size:
        every = np.array(wire.shapes[0]) if word == "size" else np.ones(wire.rank, found.dtype)
        every[list(axes)] = found
        found = every
    if found is None or found.shape != (wire.rank,) or not 3 <= wire.rank <= 5:
        checks.refuse("its input must have 3 to 5 axes, and a constant scale or size for each")
    return word, found


def _resize(node: Node) -> Any:
    """As `funcnn.upsample` does it, which is as PyTorch does it."""
    wire, old = floats(node), node.kind == "Upsample" or node.version < 11
    word, given = _given(node, wire, old)
    factors = given / (wire.shapes[0] if word == "size" else 1)
    numbers = tuple(float(str(np.float32(number))) for number in given[2:])
    whole = all(number == int(number) for number in numbers)
    if (factors[:2] != 1).any() or min(numbers) <= 0:
        checks.refuse(f"its batch and channels must stay, got {shown(given.tolist())}")
    mode, count = node.option("mode", "nearest"), wire.rank - 2
    place = "asymmetric" if old else node.option("coordinate_transformation_mode", "half_pixel")
    rounding = "floor" if old else node.option("nearest_mode", "round_prefer_floor")
    node.only("antialias", 0)
    node.only("exclude_outside", 0)
    node.only("cubic_coeff_a", -0.75)
    node.read |= {"extrapolation_value", "keep_aspect_ratio_policy"}
    if place == "pytorch_half_pixel" and (np.array(wire.shapes[0])[2:] * factors[2:] < 2).any():
        checks.refuse("attribute coordinate_transformation_mode must be 'half_pixel' for one place")
    half, floor = place.endswith("half_pixel"), (place, rounding) == ("asymmetric", "floor")
    ties = word == "size" or not whole  # whether a centre may lie between two pixels
    up = ("round_prefer_ceil",) if ties else ("round_prefer_ceil", "round_prefer_floor")
    exact = half and rounding in up
    lines = half or (place == "align_corners" and (whole or word == "size"))
    words = {
        "nearest": "nearest" if floor else "nearest-exact" * exact,
        "linear": _LINEAR[count] * lines,
        "cubic": "bicubic" * (lines and count == 2),
    }
    if not words.get(mode):
        checks.refuse(f"attribute mode {shown(mode)} is not known with {shown((place, rounding))}")
    number = alike(tuple(map(int, numbers)) if whole else numbers)
    options: dict[str, Any] = {word: number, "mode": words[mode]}
    aligned = place == "align_corners" and mode != "nearest"
    return channels_last(node, upsample(align_corners=aligned, **options))


RESIZING: dict[str, Callable[[Node], Any]] = {"Resize": _resize, "Upsample": _resize}
