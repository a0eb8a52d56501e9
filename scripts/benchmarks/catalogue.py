"""Every layer at a realistic size, beside what a PyTorch user would write.

Both columns are expressions: ours with the names of `funcnn` and `funcnn.models`, PyTorch's with
those of `of_torch`: ``nn``, ``F``, ``torch`` and a few that stand for what PyTorch lacks.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np


class Entry(NamedTuple):
    """A layer in both words.

    ``shape`` is our input's, or a tuple of several inputs' shapes; ``sequence`` says that PyTorch
    wants channels before time; ``tokens``, where positive, that the input is integers below it;
    ``given`` is the second of two inputs, if it is not numbers.
    """

    ours: str
    theirs: str
    shape: Any
    sequence: bool = False
    tokens: int = 0
    note: str = ""
    given: Any = None

    @property
    def name(self) -> str:
        return f"{self.ours} {self.note}".strip()


IMAGE = (32, 32, 16, 16)
STEPS = (32, 64, 128)  # of a sequence, with features last
VOLUME = (32, 8, 8, 16, 16)
ROWS = (32, 256)
LACKS = "(not in PyTorch: composed there)"


def corners(shape: tuple[int, ...]) -> Any:
    """The index of the first element of each window of 2 along each axis of space."""
    first = np.indices(shape[2:]) * 2
    return np.full(shape, np.ravel_multi_index(tuple(first), tuple(2 * n for n in shape[2:])))


def _steps(ours: str, theirs: str) -> Entry:
    """Of sequences with lengths."""
    return Entry(ours, theirs, (STEPS, (32,)), note=LACKS, given=np.arange(33, 65))


def _unpool(ours: str, theirs: str, shape: tuple[int, ...]) -> Entry:
    return Entry(ours, theirs, (shape, shape), given=corners(shape))


_ELEMENTWISE = (
    ("relu()", "nn.ReLU()"),
    ("relu6()", "nn.ReLU6()"),
    ("leaky_relu(0.1)", "nn.LeakyReLU(0.1)"),
    ("rrelu()", "nn.RReLU()"),
    ("prelu()", "nn.PReLU()"),
    ("prelu(per_channel=True)", "nn.PReLU(32)"),
    ("elu()", "nn.ELU()"),
    ("celu(0.5)", "nn.CELU(0.5)"),
    ("selu()", "nn.SELU()"),
    ("gelu()", "nn.GELU()"),
    ("gelu('tanh')", "nn.GELU('tanh')"),
    ("silu()", "nn.SiLU()"),
    ("mish()", "nn.Mish()"),
    ("softplus()", "nn.Softplus()"),
    ("softsign()", "nn.Softsign()"),
    ("sigmoid()", "nn.Sigmoid()"),
    ("log_sigmoid()", "nn.LogSigmoid()"),
    ("hard_sigmoid()", "nn.Hardsigmoid()"),
    ("hard_swish()", "nn.Hardswish()"),
    ("hard_tanh()", "nn.Hardtanh()"),
    ("tanh()", "nn.Tanh()"),
    ("threshold(0.1, 20.0)", "nn.Threshold(0.1, 20.0)"),
    ("soft_shrink()", "nn.Softshrink()"),
    ("hard_shrink()", "nn.Hardshrink()"),
    ("tanh_shrink()", "nn.Tanhshrink()"),
)

_ACTIVATIONS = (
    *(Entry(ours, theirs, IMAGE) for ours, theirs in _ELEMENTWISE),
    Entry("softmax()", "nn.Softmax(-1)", STEPS),
    Entry("log_softmax()", "nn.LogSoftmax(-1)", STEPS),
    Entry("softmin()", "nn.Softmin(-1)", STEPS),
    Entry("softmax(axis=1)", "nn.Softmax(1)", IMAGE),
    Entry("log_softmax(axis=1)", "nn.LogSoftmax(1)", IMAGE),
    Entry("glu()", "nn.GLU(-1)", STEPS),
    Entry("glu(axis=1)", "nn.GLU(1)", IMAGE),
    Entry("swiglu()", "SwiGLU()", STEPS, note=LACKS),
    Entry("maxout(2)", "Maxout(2)", STEPS, note=LACKS),
    Entry("maxout(2, axis=1)", "Maxout(2, 1)", IMAGE, note=LACKS),
)

_NORMALISATIONS = (
    Entry("batch_norm()", "nn.BatchNorm2d(32)", IMAGE),
    Entry("batch_norm()", "nn.BatchNorm1d(256)", ROWS, note="of rows"),
    Entry("layer_norm()", "nn.LayerNorm(128)", STEPS),
    Entry("layer_norm((1, 2, 3))", "nn.LayerNorm((32, 16, 16))", IMAGE),
    Entry("group_norm(8)", "nn.GroupNorm(8, 32)", IMAGE),
    Entry("instance_norm(affine=True)", "nn.InstanceNorm2d(32, affine=True)", IMAGE),
    Entry("rms_norm()", "nn.RMSNorm(128, 1e-6)", STEPS),
    Entry("local_response_norm(5)", "nn.LocalResponseNorm(5)", IMAGE),
)

_REGULARISERS = (
    Entry("dropout(0.3)", "nn.Dropout(0.3)", IMAGE),
    Entry("spatial_dropout(0.3)", "nn.Dropout2d(0.3)", IMAGE),
    Entry("alpha_dropout(0.3)", "nn.AlphaDropout(0.3)", IMAGE),
    Entry("alpha_dropout(0.3, channels=True)", "nn.FeatureAlphaDropout(0.3)", IMAGE),
    Entry("drop_path(0.3)", "DropPath(0.3)", IMAGE, note=LACKS),
    Entry("gaussian_noise(0.1)", "Noise(0.1)", IMAGE, note=LACKS),
)

_LINEAR = (
    Entry("dense(256)", "nn.Linear(256, 256)", ROWS),
    Entry("bilinear(64)", "nn.Bilinear(64, 64, 64)", ((32, 64), (32, 64))),
    Entry("embedding(1000, 128)", "nn.Embedding(1000, 128)", (32, 64), tokens=1000),
    Entry("embedding_bag(1000, 128)", "nn.EmbeddingBag(1000, 128)", (32, 64), tokens=1000),
    Entry("cosine_similarity()", "nn.CosineSimilarity()", (ROWS, ROWS)),
    Entry("pairwise_distance()", "nn.PairwiseDistance()", (ROWS, ROWS)),
    Entry("positional_encoding()", "Sinusoids(64, 128)", STEPS, note=LACKS),
    Entry("learned_positions(64)", "Positions(64, 128)", STEPS, note=LACKS),
    Entry("rotary()", "Rotary(64, 128)", STEPS, note=LACKS),
    Entry("rotary(interleaved=False)", "Rotary(64, 128, False)", STEPS, note=LACKS),
    Entry("alibi(8)", "Biases(8, 64)", STEPS, note=LACKS),
    Entry("relative_positions(8)", "Biases(8, 64, 32)", STEPS, note=LACKS),
)

_CONVOLUTIONS = (
    Entry("conv(32, 3, padding=1)", "nn.Conv2d(32, 32, 3, padding=1)", IMAGE),
    Entry("conv(64, 3, stride=2, padding=1)", "nn.Conv2d(32, 64, 3, 2, 1)", IMAGE),
    Entry("conv(32, 3, padding=1, groups=4)", "nn.Conv2d(32, 32, 3, 1, 1, groups=4)", IMAGE),
    Entry("conv1d(128, 3, padding=1)", "nn.Conv1d(128, 128, 3, padding=1)", STEPS, True),
    Entry(
        "conv1d(128, 3, padding='causal', dilation=2)", "CausalConv1d(128, 128, 3, 2)", STEPS, True
    ),
    Entry("conv3d(8, 3, padding=1)", "nn.Conv3d(8, 8, 3, padding=1)", VOLUME),
    Entry("conv_transpose(32, 2, stride=2)", "nn.ConvTranspose2d(32, 32, 2, 2)", IMAGE),
    Entry("conv_transpose3d(8, 2, stride=2)", "nn.ConvTranspose3d(8, 8, 2, 2)", VOLUME),
    Entry("conv_transpose1d(64, 2, stride=2)", "nn.ConvTranspose1d(128, 64, 2, 2)", STEPS, True),
    Entry("depthwise_conv(3, padding=1)", "nn.Conv2d(32, 32, 3, 1, 1, groups=32)", IMAGE),
    Entry(
        "separable_conv(64, 3, padding=1)",
        "nn.Sequential(nn.Conv2d(32, 32, 3, 1, 1, groups=32, bias=False), nn.Conv2d(32, 64, 1))",
        IMAGE,
        note=LACKS,
    ),
)

_POOLS = (
    Entry("max_pool(2)", "nn.MaxPool2d(2)", IMAGE),
    Entry("max_pool(3, stride=2, padding=1)", "nn.MaxPool2d(3, 2, 1)", IMAGE),
    Entry("max_pool1d(2)", "nn.MaxPool1d(2)", STEPS, True),
    Entry("max_pool3d(2)", "nn.MaxPool3d(2)", VOLUME),
    Entry("avg_pool(2)", "nn.AvgPool2d(2)", IMAGE),
    Entry("avg_pool(3, stride=2, padding=1)", "nn.AvgPool2d(3, 2, 1)", IMAGE),
    Entry("avg_pool1d(2)", "nn.AvgPool1d(2)", STEPS, True),
    Entry("avg_pool3d(2)", "nn.AvgPool3d(2)", VOLUME),
    Entry("lp_pool(2)", "nn.LPPool2d(2, 2)", IMAGE),
    Entry("lp_pool1d(2)", "nn.LPPool1d(2, 2)", STEPS, True),
    Entry("lp_pool3d(2)", "nn.LPPool3d(2, 2)", VOLUME),
    Entry("global_avg_pool()", "nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())", IMAGE),
    Entry("global_max_pool()", "nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten())", IMAGE),
    Entry("adaptive_avg_pool(7)", "nn.AdaptiveAvgPool2d(7)", IMAGE),
    Entry("adaptive_avg_pool1d(7)", "nn.AdaptiveAvgPool1d(7)", STEPS, True),
    Entry("adaptive_avg_pool3d(3)", "nn.AdaptiveAvgPool3d(3)", VOLUME),
    Entry("adaptive_max_pool(7)", "nn.AdaptiveMaxPool2d(7)", IMAGE),
    Entry("adaptive_max_pool1d(7)", "nn.AdaptiveMaxPool1d(7)", STEPS, True),
    Entry("adaptive_max_pool3d(3)", "nn.AdaptiveMaxPool3d(3)", VOLUME),
    _unpool("max_unpool(2)", "nn.MaxUnpool2d(2)", (32, 32, 8, 8)),
    _unpool("max_unpool3d(2)", "nn.MaxUnpool3d(2)", (32, 8, 4, 8, 8)),
    Entry(
        "max_unpool1d(2)", "nn.MaxUnpool1d(2)", ((32, 32, 128),) * 2, True,
        given=np.ascontiguousarray(corners((32, 128, 32)).swapaxes(1, 2)),  # as PyTorch has them, too
    ),
    Entry("last_step()", "Call(lambda x: x[:, -1])", STEPS),
    _steps("masked_mean_pool()", "MaskedPool('mean')"),
    _steps("masked_max_pool()", "MaskedPool('max')"),
)

_SHAPES = (
    Entry("identity()", "nn.Identity()", IMAGE),
    Entry("flatten()", "nn.Flatten()", IMAGE),
    Entry("reshape(32, 256)", "nn.Unflatten(1, (32, 256))", (32, 8192)),
    Entry("transpose(2, 1)", "Call(lambda x: x.transpose(1, 2))", STEPS),
    Entry("pad(1)", "nn.ZeroPad2d(1)", IMAGE),
    Entry("pad(1, mode='reflect')", "nn.ReflectionPad2d(1)", IMAGE),
    Entry("pad(1, mode='replicate')", "nn.ReplicationPad2d(1)", IMAGE),
    Entry("pad(1, mode='circular')", "nn.CircularPad2d(1)", IMAGE),
    Entry("crop(1)", "Call(lambda x: x[:, :, 1:-1, 1:-1])", IMAGE),
    Entry("upsample(2)", "nn.Upsample(scale_factor=2)", IMAGE),
    Entry(
        "upsample(2, mode='bilinear')", "nn.Upsample(scale_factor=2, mode='bilinear')", IMAGE
    ),
    Entry("pixel_shuffle(2)", "nn.PixelShuffle(2)", IMAGE),
    Entry("channel_shuffle(4)", "nn.ChannelShuffle(4)", IMAGE),
    Entry("pixel_unshuffle(2)", "nn.PixelUnshuffle(2)", IMAGE),
    Entry("concatenate()", "Call(lambda *x: torch.cat(x, 1))", (IMAGE, IMAGE)),
    Entry("split(2)", "Call(lambda x: torch.split(x, 16, 1))", IMAGE),
)

_WALK = (32, 32, 64)
_SEQUENCES = (
    Entry("rnn(128)", "First(nn.RNN(64, 128, batch_first=True))", _WALK),
    Entry("lstm(128)", "First(nn.LSTM(64, 128, batch_first=True))", _WALK),
    Entry("gru(128)", "First(nn.GRU(64, 128, batch_first=True))", _WALK),
    Entry(
        "lstm(64, layers=2, bidirectional=True)",
        "First(nn.LSTM(64, 64, 2, batch_first=True, bidirectional=True))",
        _WALK,
    ),
    Entry("attention()", "Call(F.scaled_dot_product_attention)", ((32, 64, 64),) * 3),
    Entry(
        "attention(causal=True)",
        "Call(lambda *x: F.scaled_dot_product_attention(*x, is_causal=True))",
        ((32, 64, 64),) * 3,
    ),
    Entry("multi_head_attention(4)", "SelfAttention(128, 4)", STEPS),
    Entry("multi_head_attention(4, causal=True)", "SelfAttention(128, 4, True)", STEPS),
    Entry("cross_attention(4)", "CrossAttention(128, 4)", (STEPS, (32, 48, 128))),
    Entry("transformer_encoder_block(128, 4, 256)", "Encoder(128, 4, 256)", STEPS),
    Entry("transformer_decoder_block(128, 4, 256)", "Encoder(128, 4, 256, True)", STEPS),
    Entry(
        "transformer_decoder_block(128, 4, 256, memory=True)",
        "Decoder(128, 4, 256)",
        (STEPS, (32, 48, 128)),
    ),
)

LAYERS = (
    *_ACTIVATIONS,
    *_NORMALISATIONS,
    *_REGULARISERS,
    *_LINEAR,
    *_CONVOLUTIONS,
    *_POOLS,
    *_SHAPES,
    *_SEQUENCES,
)


@cache
def _by_name() -> dict[str, Entry]:
    return {entry.name: entry for entry in LAYERS}


def find(name: str) -> Entry:
    """The entry that a worker is told to build."""
    return _by_name()[name]


def inputs(entry: Entry) -> Any:
    """The same numbers for both; a tuple of arrays where there are several."""
    draw = np.random.default_rng(0)
    if entry.tokens:
        return draw.integers(0, entry.tokens, entry.shape)
    if entry.given is not None:
        return draw.standard_normal(entry.shape[0], np.float32), entry.given
    if isinstance(entry.shape[0], tuple):
        return tuple(draw.standard_normal(shape, np.float32) for shape in entry.shape)
    return draw.standard_normal(entry.shape, np.float32)
