"""The name of version 0.1 for `funcnn.combinators`."""

from __future__ import annotations

from funcnn._lazy import renamed

__getattr__ = renamed(__name__, "funcnn.combinators")
