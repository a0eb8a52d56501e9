"""How parameters begin: values that draw an array of a given shape from a key.

An `Initializer` is data: it can be pickled, compared and printed, and any layer takes any of them.

Examples
--------
>>> from funcnn import initializers, random
>>> start = initializers.he_normal()
>>> start
he_normal()
>>> start(random.key(0), (64, 32, 3, 3)).shape
(64, 32, 3, 3)

Notes
-----
Fans follow the layout of the weights, ``(out, in, *kernel)``:
``fan_in = in * prod(kernel)`` and ``fan_out = out * prod(kernel)``.
"""

from __future__ import annotations

from funcnn._lazy import lazily

__all__, __getattr__, __dir__ = lazily(__name__)
