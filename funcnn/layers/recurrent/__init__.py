"""Recurrent layers: one implementation of stacks, directions, carries and lengths for all cells."""

from __future__ import annotations

from funcnn._lazy import lazily

__all__, __getattr__, __dir__ = lazily(__name__)
