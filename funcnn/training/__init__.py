"""Training: gradients of a loss, one pure step, and a loop that people like to use."""

from __future__ import annotations

from funcnn._lazy import lazily

__all__, __getattr__, __dir__ = lazily(__name__)
