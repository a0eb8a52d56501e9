"""Networks that are wired wrongly: a type checker must reject every marked line, and no other."""

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
    max_pool,
    merge,
    parallel,
    random,
    relu,
    remat,
    repeat,
    residual,
    serial,
    share,
    softmax_cross_entropy,
    value_and_grad,
)
from funcnn.types import Image, Vector

serial(conv(6, 5), dense(10))  # wrong
serial(conv(6, 5), relu(), dense(10))  # wrong
serial(dense(10), conv(6, 5))  # wrong
serial(flatten(), max_pool(2))  # wrong
serial(flatten(), relu(), max_pool(2))  # wrong
serial(conv(6, 5), flatten(), max_pool(2))  # wrong
serial(relu(), conv(6, 5), dense(3))  # wrong
serial(relu(), identity(), conv(6, 5), dense(3))  # wrong
serial(conv(6, 5), relu(), max_pool(2), conv(16, 5), relu(), max_pool(2), dense(10))  # wrong
serial(conv(6, 5), relu(), max_pool(2), flatten(), dense(9), relu(), max_pool(2))  # wrong
serial(serial(conv(6, 5), relu()), serial(relu(), dense(3)))  # wrong
serial(conv(6, 5), relu)  # wrong
serial(*[conv(6, 5)], relu)  # wrong
serial(embedding(9, 4), relu(), dense(3))  # wrong
serial(conv(6, 5), batch_norm(), relu(), dropout(0.5), dense(3))  # wrong
serial(relu(), batch_norm(), relu(), dense(3), dropout(0.5), relu(), conv(3, 3))  # wrong
serial(dense(1), relu(), dense(2), relu(), dense(3), relu(), dense(4), relu(), dense(5), relu(), dense(6), conv(1, 1))  # wrong
serial(dense(1), relu(), dense(2), relu(), dense(3), relu(), dense(4), relu(), dense(5), relu(), dense(6), relu(), dense(7), conv(1, 1))  # wrong
serial(dense(1), relu(), dense(2), relu(), dense(3), relu(), dense(4), relu(), dense(5), relu(), dense(6), relu(), dense(7), relu(), dense(8), relu(), dense(9), relu(), dense(10), conv(1, 1))  # wrong
serial(dense(1), dense(1), dense(1), dense(1), dense(1), dense(1), dense(1), dense(1), dense(1), dense(1), dense(1), dense(1), dense(1), dense(1), dense(1), dense(1), dense(1), dense(1), dense(1), dense(1), dense(1))  # wrong
serial(dense(1), relu(), dense(2), relu(), dense(3), relu(), dense(4), relu(), dense(5), relu(), dense(6), relu(), dense(7), relu(), dense(8), relu(), dense(9), relu(), dense(1), relu(), relu(), conv(1, 1))  # wrong

residual(conv(6, 3), dense(3))  # wrong
residual(conv(6, 3), flatten())  # wrong
parallel(conv(6, 1), dense(3))  # wrong

images: Layer[Image, Image] = serial(conv(6, 5), flatten())  # wrong
conv("6", 5)  # wrong
conv(6, 5, stride="2")  # wrong

net = serial(flatten(), dense(10))
_, params = net.init(random.key(0), (1, 2, 3))
net.init(0, (1, 2, 3))  # wrong
classifier: Layer[Vector, Vector] = dense(3)
pictures = np.zeros((1, 3, 8, 8), np.float32)
classifier.apply({}, pictures)  # wrong
vectors = np.zeros((2, 3), np.float32)
value_and_grad(net, dense(3))  # wrong
value_and_grad(softmax_cross_entropy(), net)  # wrong
value_and_grad(conv(6, 5), softmax_cross_entropy())(params, vectors, 0)  # wrong

branch(conv(2, 1), dense(3))  # wrong
serial(branch(conv(2, 1), conv(3, 1)), conv(2, 1))  # wrong
serial(branch(dense(2), dense(3), dense(3)), bilinear(4))  # wrong
repeat(serial(conv(2, 1), flatten()), times=2)  # wrong
share(serial(conv(2, 1), flatten()), times=2)  # wrong
dense_connect(conv(2, 1), dense(3))  # wrong
residual(conv(2, 1), shortcut=dense(3))  # wrong
remat(relu)  # wrong
serial(freeze(conv(2, 1)), dense(3))  # wrong
