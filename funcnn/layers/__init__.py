"""Layers, one file for each family. Files in here never import each other.

activations
    celu, elu, gelu, glu, hard_shrink, hard_sigmoid, hard_swish, hard_tanh, leaky_relu, log_sigmoid,
    log_softmax, maxout, mish, prelu, relu, relu6, selu, sigmoid, silu, soft_shrink, softmax, softmin,
    softplus, softsign, swiglu, tanh, tanh_shrink, threshold
attention
    attention, cross_attention, multi_head_attention
convolution
    conv, conv1d, conv3d, conv_transpose, conv_transpose1d, depthwise_conv, separable_conv
embedding
    embedding, learned_positions, positional_encoding, rotary
linear
    bilinear, dense
normalization
    batch_norm, group_norm, instance_norm, layer_norm, local_response_norm, rms_norm
pooling
    adaptive_avg_pool, adaptive_avg_pool1d, adaptive_avg_pool3d, adaptive_max_pool,
    adaptive_max_pool1d, adaptive_max_pool3d, avg_pool, avg_pool1d, avg_pool3d, global_avg_pool,
    global_max_pool, lp_pool, lp_pool1d, lp_pool3d, max_pool, max_pool1d, max_pool3d
recurrent
    gru, lstm, rnn
regularization
    drop_path, dropout, gaussian_noise, spatial_dropout
shape
    concatenate, crop, flatten, identity, pad, pixel_shuffle, pixel_unshuffle, reshape, split,
    transpose, upsample

The README's catalogue has their names in PyTorch and stax, and combinators, losses and models as well.
"""
