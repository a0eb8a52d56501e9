"""Networks to ONNX and back.

ONNX is an extra: ``pip install "funcnn[onnx]"``.
"""

from __future__ import annotations

try:
    import onnx  # noqa: F401 - what is missing is named here
except ImportError:
    raise ImportError('ONNX is needed: pip install "funcnn[onnx]"') from None

from funcnn.interop.onnx.exporting import export
from funcnn.interop.onnx.loading import LAYERS, load

__all__ = ["LAYERS", "export", "load"]
