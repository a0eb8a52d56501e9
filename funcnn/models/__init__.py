"""Networks built only from public layers."""

from __future__ import annotations

from funcnn.models.text import char_rnn, transformer_lm
from funcnn.models.transformer import transformer_decoder_block, transformer_encoder_block
from funcnn.models.vision import autoencoder, lenet, mlp, mlp_mixer, resnet_small, vgg_small

__all__ = [
    "autoencoder",
    "char_rnn",
    "lenet",
    "mlp",
    "mlp_mixer",
    "resnet_small",
    "transformer_decoder_block",
    "transformer_encoder_block",
    "transformer_lm",
    "vgg_small",
]
