"""Layers, one file for each family. Files in here never import each other.

The catalogue lists them with their names in PyTorch and stax, next to combinators, losses and models.
"""

from __future__ import annotations

from funcnn._lazy import lazily

__all__, __getattr__, __dir__ = lazily(__name__)
