"""Pooling: the largest, the mean or the norm of windows, and of a given number of places."""

from __future__ import annotations

from funcnn._lazy import lazily

__all__, __getattr__, __dir__ = lazily(__name__)
