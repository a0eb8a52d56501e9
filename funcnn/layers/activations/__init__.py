"""Activations: elementwise functions, each with its exact derivative, and those along an axis."""

from __future__ import annotations

from funcnn._lazy import lazily

__all__, __getattr__, __dir__ = lazily(__name__)
