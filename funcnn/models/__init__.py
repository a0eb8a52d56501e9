"""Networks built only from public layers."""

from __future__ import annotations

from funcnn._lazy import lazily

__all__, __getattr__, __dir__ = lazily(__name__)
