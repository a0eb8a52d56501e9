"""Proofs in one line: that a layer or a loss keeps every law, that a run gives the same bits again.

Examples
--------
>>> from funcnn import dense
>>> from funcnn.testing import check_layer
>>> check_layer(dense(3), (4, 5))
"""

from __future__ import annotations

from funcnn.testing._digests import assert_reproducible, digest
from funcnn.testing._laws import Law
from funcnn.testing._layer_laws import LAWS, check_layer
from funcnn.testing._loss_laws import LOSS_LAWS, LossSubject, check_loss
from funcnn.testing._portability import assert_portable, environments
from funcnn.testing._subject import Subject

__all__ = [
    "LAWS",
    "LOSS_LAWS",
    "Law",
    "LossSubject",
    "Subject",
    "assert_portable",
    "assert_reproducible",
    "check_layer",
    "check_loss",
    "digest",
    "environments",
]
