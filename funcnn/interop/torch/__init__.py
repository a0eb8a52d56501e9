"""Networks and weights to PyTorch and back.

PyTorch is an extra: ``pip install "funcnn[torch]"``.
"""

from __future__ import annotations

try:
    import torch  # noqa: F401 - what is missing is named here
except ImportError:
    raise ImportError('PyTorch is needed: pip install "funcnn[torch]"') from None

from funcnn.interop.torch.states import load_state_dict, match, state_dict, to_module

__all__ = ["load_state_dict", "match", "state_dict", "to_module"]
