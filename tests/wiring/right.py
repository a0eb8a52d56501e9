"""Networks that are wired well; the types that a checker must infer stand beside them."""

from typing import Any, assert_type

import numpy as np

from funcnn import (
    Layer,
    batch_norm,
    bilinear,
    branch,
    conv,
    dense,
    dense_connect,
    dropout,
    embedding,
    flatten,
    freeze,
    identity,
    inference_mode,
    keep_context,
    last_step,
    layer_norm,
    lstm,
    masked_mean_pool,
    max_pool,
    merge,
    named,
    parallel,
    random,
    relu,
    remat,
    repeat,
    residual,
    serial,
    sgd_update,
    share,
    softmax,
    softmax_cross_entropy,
    tied,
    value_and_grad,
    with_context,
)
from funcnn.types import Counts, Image, Sequence, Tokens, Vector

assert_type(serial(dense(3)), Layer[Vector, Vector])
assert_type(serial(lstm(4), last_step(), dense(3)), Layer[Sequence, Vector])
assert_type(
    serial(
        keep_context(embedding(9, 4), "lengths"), with_context(lstm(4, lengths=True)), masked_mean_pool(),
        dense(3),
    ),
    Layer[tuple[Tokens, Counts], Vector],
)
assert_type(serial(conv(6, 5), flatten()), Layer[Image, Vector])
assert_type(serial(conv(6, 5), relu(), flatten()), Layer[Image, Vector])
assert_type(serial(conv(6, 5), relu(), max_pool(2), flatten()), Layer[Image, Vector])
assert_type(serial(conv(6, 5), relu(), max_pool(2), flatten(), dense(1)), Layer[Image, Vector])
assert_type(serial(conv(6, 5), relu(), max_pool(2), flatten(), dense(1), relu()), Layer[Image, Vector])
assert_type(
    serial(conv(6, 5), relu(), max_pool(2), flatten(), dense(1), relu(), dense(1)),
    Layer[Image, Vector],
)
assert_type(
    serial(conv(6, 5), relu(), max_pool(2), conv(6, 5), relu(), max_pool(2), flatten(), dense(1)),
    Layer[Image, Vector],
)
assert_type(
    serial(
        conv(6, 5), relu(), max_pool(2), conv(6, 5), relu(), max_pool(2), flatten(), dense(1), relu()
    ),
    Layer[Image, Vector],
)
lenet = serial(
    conv(6, 5), relu(), max_pool(2), conv(16, 5), relu(), max_pool(2),
    flatten(), dense(120), relu(), dense(10),
)  # fmt: skip
assert_type(lenet, Layer[Image, Vector])
assert_type(
    serial(
        conv(6, 5), relu(), max_pool(2), conv(16, 5), relu(), max_pool(2),
        flatten(), dense(120), relu(), dense(10), softmax(),
    ),
    Layer[Image, Vector],
)  # fmt: skip
assert_type(
    serial(
        conv(6, 5), relu(), max_pool(2), conv(16, 5), relu(), max_pool(2),
        flatten(), dense(120), relu(), dense(84), relu(), dense(10),
    ),
    Layer[Image, Vector],
)  # fmt: skip

# A chain may start with layers that keep any shape.
assert_type(serial(relu(), conv(6, 5)), Layer[Image, Image])
assert_type(serial(relu(), identity(), conv(6, 5)), Layer[Image, Image])
assert_type(serial(relu(), dense(3), relu(), dense(2)), Layer[Vector, Vector])

# Combinators nest.
block = residual(conv(6, 3, padding=1), relu(), conv(6, 3, padding=1))
assert_type(block, Layer[Image, Image])
both = parallel(conv(6, 1), conv(6, 3, padding=1), merge="concatenate")
assert_type(both, Layer[Image, Image])
assert_type(serial(named("stem", conv(6, 5)), block, both, flatten(), dense(10)), Layer[Image, Vector])

# Training keeps the types.
images = np.zeros((32, 3, 28, 28), np.float32)
labels = np.zeros(32, np.int64)
_, params = lenet.init(random.key(0), images.shape)
loss, grads = value_and_grad(lenet, softmax_cross_entropy())(params, images, labels)
params = sgd_update(params, grads, lr=0.01)
out, cache = lenet.apply(params, images)
assert_type(out, Vector)

# Chains may end with layers that keep any shape, and start and end with them.
assert_type(serial(dense(3), relu()), Layer[Vector, Vector])
assert_type(serial(conv(6, 5), flatten(), softmax()), Layer[Image, Vector])
assert_type(serial(conv(6, 5), flatten(), relu(), softmax()), Layer[Image, Vector])
assert_type(serial(conv(6, 5), flatten(), dense(3), relu(), softmax()), Layer[Image, Vector])
assert_type(serial(relu(), conv(6, 5), relu()), Layer[Image, Image])
assert_type(serial(relu(), conv(6, 5), flatten(), dense(2), softmax()), Layer[Image, Vector])
assert_type(serial(relu(), identity(), dense(2), relu(), softmax()), Layer[Vector, Vector])
assert_type(serial(serial(relu(), conv(6, 5), relu()), flatten(), dense(3)), Layer[Image, Vector])
typed: Layer[Image, Image] = serial(relu(), relu())

# However many shape-preserving layers stand between two others, the types pass through.
assert_type(
    serial(dense(8), batch_norm(), relu(), dropout(0.5), dense(8), layer_norm(), relu(), dense(2)),
    Layer[Vector, Vector],
)
assert_type(
    serial(
        conv(8, 3), batch_norm(), relu(), max_pool(2), conv(8, 3), batch_norm(), relu(), dropout(0.5),
        flatten(), dense(9), relu(), dense(3),
    ),
    Layer[Image, Vector],
)  # fmt: skip
assert_type(
    serial(dense(3), serial(batch_norm(), relu()), named("squash", softmax()), dense(3)),
    Layer[Vector, Vector],
)
assert_type(residual(batch_norm(), relu(), conv(8, 3, padding=1)), Layer[Image, Image])
assert_type(serial(flatten(), dense(10), relu(), dense(3)), Layer[Any, Vector])
activation = relu()
assert_type(serial(dense(3), activation, activation, dense(3)), Layer[Vector, Vector])

# Long chains are checked, too; a list with a star is taken as it is.
assert_type(
    serial(
        conv(8, 3), batch_norm(), relu(), conv(8, 3), batch_norm(), relu(), max_pool(2), conv(8, 3),
        batch_norm(), relu(), conv(8, 3), batch_norm(), relu(), max_pool(2), flatten(), dense(9), relu(),
        dropout(0.5), dense(3), softmax(),
    ),
    Layer[Image, Vector],
)  # fmt: skip
some: list[Layer[Any, Any]] = [*lenet]
serial(conv(1, 1), *some, dense(3))
assert_type(serial(*some), Layer[Any, Any])
serial(flatten(), *[dense(9) for _ in range(30)], dense(3))
serial(*[conv(9, 3) for _ in range(30)], flatten(), dense(3))
deep = serial(*[dense(9) for _ in range(30)], relu()).init(random.key(0), (1, 9))

# What is inside a network is a layer.
assert_type(lenet["conv1"], Layer[Any, Any])
assert_type(lenet[0:3], Layer[Any, Any])
assert_type(next(iter(lenet)), Layer[Any, Any])

# A flatten in front takes anything.
mlp: Layer[Image, Vector] = serial(flatten(), dense(10), relu(), dense(3))
assert_type(serial(conv(6, 5), mlp), Layer[Image, Vector])

# Combinators infer what goes in and what comes out.
assert_type(branch(conv(2, 1), serial(conv(2, 1), flatten())), Layer[Image, tuple[Image, Vector]])
assert_type(serial(branch(dense(2), dense(3)), bilinear(4)), Layer[Vector, Vector])
assert_type(serial(branch(conv(2, 1), conv(2, 1)), merge()), Layer[Image, Any])
assert_type(residual(conv(2, 1), relu(), shortcut=conv(2, 1)), Layer[Image, Image])
assert_type(dense_connect(conv(2, 1), serial(relu(), conv(2, 1))), Layer[Image, Image])
assert_type(repeat(serial(relu(), conv(2, 1)), times=3), Layer[Image, Image])
assert_type(serial(conv(2, 1), residual(relu()), conv(2, 1)), Layer[Image, Image])
assert_type(serial(conv(2, 1), dense_connect(relu()), flatten()), Layer[Image, Vector])
assert_type(share(dense(3), times=3), Layer[Vector, Vector])
assert_type(serial(dense(2), remat(relu()), freeze(dense(2))), Layer[Vector, Vector])
assert_type(remat(freeze(serial(conv(2, 1), flatten()))), Layer[Image, Vector])
assert_type(tied(serial(dense(3), dense(3)), ties={"dense2": "dense1"}), Layer[Vector, Vector])
assert_type(parallel(conv(2, 1), relu(), merge="product"), Layer[Image, Image])
assert_type(freeze(parallel(conv(2, 1), relu())), Layer[Image, Image])
assert_type(named("stem", inference_mode(serial(relu(), conv(2, 1), flatten()))), Layer[Image, Vector])
assert_type(serial(dense(2), named("squash", inference_mode(softmax())), dense(2)), Layer[Vector, Vector])
assert_type(residual(relu(), dense(2), relu(), dropout(0.5), dense(2)), Layer[Vector, Vector])
assert_type(serial(residual(relu(), dense(2)), freeze(dense(2))), Layer[Vector, Vector])
assert_type(named("block", residual(layer_norm(), shortcut=dense(2))), Layer[Vector, Vector])
assert_type(serial(dense_connect(relu(), conv(2, 1)), flatten()), Layer[Image, Vector])
named("either", parallel(relu(), conv(2, 1)))
