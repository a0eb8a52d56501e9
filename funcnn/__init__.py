"""funcnn: a purely functional neural-network framework on NumPy.

A layer is pure functions, ``init(key, shape)``, ``apply(params, x)`` and ``vjp(cache, dout)``, and a
network is layers composed. Parameters are nested dicts of arrays. Nothing is hidden or mutated.

Examples
--------
>>> import numpy as np
>>> from funcnn import dense, random, relu, serial, softmax_cross_entropy, value_and_grad
>>> net = serial(dense(16), relu(), dense(3))
>>> _, params = net.init(random.key(0), (8, 4))
>>> x = random.normal(random.key(1), (8, 4))
>>> loss, grads = value_and_grad(net, softmax_cross_entropy())(params, x, np.zeros(8, int))
>>> list(grads)
['dense1', 'dense2']
"""

from __future__ import annotations

from funcnn._lazy import lazily

__version__ = "0.1.0"

__all__, __getattr__, __dir__ = lazily(__name__)
