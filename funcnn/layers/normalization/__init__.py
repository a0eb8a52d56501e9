"""Normalisation: over the batch, within each example, and over neighbouring channels."""

from __future__ import annotations

from funcnn._lazy import lazily

__all__, __getattr__, __dir__ = lazily(__name__)
