"""Proofs in one line: that a layer or a loss keeps every law, that a run gives the same bits again.

Examples
--------
>>> from funcnn import dense
>>> from funcnn.testing import check_layer
>>> check_layer(dense(3), (4, 5))
"""

from __future__ import annotations

from funcnn._lazy import lazily

__all__, __getattr__, __dir__ = lazily(__name__)
