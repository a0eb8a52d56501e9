"""Networks built only from public layers."""

from __future__ import annotations

from funcnn.models.transformer import transformer_decoder_block, transformer_encoder_block

__all__ = ["transformer_decoder_block", "transformer_encoder_block"]
