"""Immutable keys, and draws that are the same bits on every machine.

A `Key` is a value: drawing from it twice gives the same numbers, and nothing anywhere has a state.
For different numbers, make different keys: `split` a key, or `fold_in` a number or a name.

Examples
--------
>>> from funcnn import random
>>> key = random.key(0)
>>> weights, noise = random.split(key)
>>> random.normal(weights, (2, 3)).shape
(2, 3)
>>> random.randint(random.fold_in(noise, "epoch 1"), (4,), 0, 10).dtype
dtype('int64')

Notes
-----
The integers come from the counter-based generator Philox, whose raw stream NumPy guarantees. From
there on only ``+ - * /``, `sqrt`, integers and comparisons are used, which round the same way
everywhere: no draw depends on the machine, on the version of NumPy or on the numerics mode.

Every draw but `permutation`, and `choice` without replacement, is prefix-stable: the first values
of a longer draw are the values of a shorter one.

References
----------
J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw (2011). Parallel random numbers: as easy as 1, 2,
3. SC '11.
"""

from __future__ import annotations

from funcnn._lazy import lazily

__all__, __getattr__, __dir__ = lazily(__name__)
