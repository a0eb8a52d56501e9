"""In a notebook, cell by cell: data, a network, live curves and errors that show themselves."""

# %%
from funcnn import (
    adam,
    batch_norm,
    conv,
    data,
    dense,
    fit,
    flatten,
    max_pool,
    metrics,
    plots,
    predict,
    random,
    relu,
    serial,
    softmax_cross_entropy,
    summary,
)

EPOCHS = 10
train, test = data.split(random.key(0), data.digits(8), 0.2)
train

# %%
net = serial(conv(16, 3, padding=1), batch_norm(), relu(), max_pool(2), flatten(), dense(10))
summary(net, train.x[:32].shape)

# %%
result = fit(net, softmax_cross_entropy(), adam(0.003), train, key=random.key(1), epochs=EPOCHS,
             validation=test, metrics={"accuracy": metrics.accuracy},
             callbacks=(plots.live(),))  # fmt: skip
result

# %%
scores = predict(net, result.params, test.x)
plots.confusion(metrics.confusion_matrix(scores, test.y))

# %%
metrics.accuracy(scores, test.y)
