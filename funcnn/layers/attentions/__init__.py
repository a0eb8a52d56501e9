"""Attention: from three sequences, of many heads, to itself or to a memory; biases of its scores."""

from __future__ import annotations

from funcnn._lazy import lazily

__all__, __getattr__, __dir__ = lazily(__name__)
