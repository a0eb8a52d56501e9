"""Networks as functions of JAX.

JAX is an extra: ``pip install "funcnn[jax]"``.
"""

from __future__ import annotations

try:
    import jax  # noqa: F401 - what is missing is named here
    import onnx  # noqa: F401 - whose operators JAX computes here
except ImportError:
    raise ImportError('JAX and ONNX are needed: pip install "funcnn[jax]"') from None

from funcnn.interop.jax.tracing import to_function

__all__ = ["to_function"]
