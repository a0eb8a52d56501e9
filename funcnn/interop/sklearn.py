"""Networks as scikit-learn's estimators: in pipelines, grid searches and cross-validation.

They take arrays of shape ``(n_examples, n_features)``, as all of scikit-learn does; a network for
images begins with `funcnn.reshape`. scikit-learn is an extra: ``pip install "funcnn[sklearn]"``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from funcnn import random, tree
from funcnn.data import Batches, Dataset
from funcnn.layers.activations import softmax
from funcnn.losses import mean_squared_error, softmax_cross_entropy, weighted
from funcnn.models import mlp
from funcnn.optimizers import Optimizer, adam
from funcnn.training import evaluation, fit, state
from funcnn.types import Array, Layer, Loss, rebuild

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_random_state
    from sklearn.utils.class_weight import compute_sample_weight
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
except ImportError:
    raise ImportError('scikit-learn is needed: pip install "funcnn[sklearn]"') from None

__all__ = ["Classifier", "Regressor"]

Network = Layer[Any, Any] | Callable[[int, int], Layer[Any, Any]]


class _Estimator(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What a classifier and a regressor share: all but the meaning of ``y``."""

    n_features_in_: int

    def __init__(
        self,
        net: Network | None = None,
        *,
        loss: Loss | None = None,
        optimizer: Optimizer | None = None,
        epochs: int = 200,
        batch_size: int | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        warm_start: bool = False,
        random_state: Any = None,
        workers: int | None = None,
    ) -> None:
        self.net = net
        self.loss = loss
        self.optimizer = optimizer
        self.epochs = epochs
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.warm_start = warm_start
        self.random_state = random_state
        self.workers = workers

    def _begin(self, n_outputs: int, dtype: np.dtype[Any]) -> None:
        """A network, and the state before its first step."""
        net = mlp((100,), n_outputs) if self.net is None else self.net
        self.net_ = net if isinstance(net, Layer) else net(self.n_features_in_, n_outputs)
        self._seed = check_random_state(self.random_state).randint(2**31 - 1)
        if isinstance(self.random_state, (int, np.integer)):
            self._seed = int(self.random_state)
        key, shape = random.key(self._seed), (-1, self.n_features_in_)
        out_shape, params = self.net_.init(random.fold_in(key, "init"), shape)
        if out_shape != (-1, n_outputs):
            raise ValueError(
                f"{type(self).__name__}: `net` must give {n_outputs} outputs, got shape {out_shape}"
            )
        params = tree.map(lambda leaf: leaf.astype(dtype), params)
        self._optimizer = adam(0.001) if self.optimizer is None else self.optimizer
        self._state = state.train_state(self.net_, self._optimizer, key, shape, params)

    def _weighted(self, target: Array, weight: Array | None) -> tuple[Loss, Any]:
        """The loss, and the target that it takes."""
        loss = self._default_loss() if self.loss is None else self.loss
        if weight is None:
            return loss, target
        options = {**loss.spec.options, "reduction": "none"}
        return weighted(rebuild(loss.spec._replace(options=options))), (target, weight)

    def _fitted(self, x: Array, target: Array, weight: Array | None) -> None:
        """Train from the beginning, or from where the last training ended."""
        if not self.warm_start or not hasattr(self, "_state"):
            self._begin(self._outputs(target), x.dtype)
        classes = target if hasattr(self, "classes_") else None
        loss, target = self._weighted(target, weight)
        train, validation = Dataset(x, target), None
        if self.early_stopping:
            parts = train_test_split(
                np.arange(len(x)), test_size=self.validation_fraction, random_state=self._seed,
                stratify=classes,
            )  # fmt: skip
            train, validation = (Dataset(*train.take(np.sort(part))) for part in parts)
        result = fit(
            self.net_,
            loss,
            self._optimizer,
            train,
            key=self._state.key,
            epochs=self.epochs,
            batch_size=self._size(len(train)),
            validation=validation,
            patience=self.patience if self.early_stopping else None,
            params=self._state.params,
            progress=False,
            workers=self.workers,
        )
        self._state, self.history_ = result.state, result.history
        self.params_ = result.best_params if self.early_stopping else result.params
        self.n_epochs_ = len(result.history.get("epoch", ()))

    def _continued(self, x: Array, target: Array, weight: Array | None) -> None:
        """One epoch more."""
        if not hasattr(self, "_state"):
            self._begin(self._outputs(target), x.dtype)
        loss, target = self._weighted(target, weight)
        batches, now = Batches(Dataset(x, target), self._size(len(x))), self._state
        step = state.train_step(self.net_, loss, self._optimizer, workers=self.workers)
        for i in range(batches.steps):
            now, _ = step(now, batches.batch(now.key, now.epoch, i))
        self._state = now._replace(epoch=now.epoch + 1, batch=0)
        self.params_ = now.params

    def _size(self, count: int) -> int:
        """Examples in a batch."""
        return min(200, count) if self.batch_size is None else self.batch_size

    def _checked(self, X: Any, y: Any, weight: Any, *, begin: bool, **options: Any) -> tuple[Any, ...]:
        """Examples in one floating dtype, what they are to give, and their weights."""
        known = None if begin else self._dtype()
        x, y = validate_data(
            self, X, y, dtype=known or [np.float64, np.float32], reset=begin, **options
        )
        if weight is not None:
            weight = _check_sample_weight(weight, x, dtype=np.float64, ensure_non_negative=True)
        return x, y, weight

    def _dtype(self) -> np.dtype[Any]:
        """What the network computes in: the dtype of the examples that it began with."""
        return next((leaf.dtype for _, leaf in tree.leaves(self.params_)), np.dtype(np.float32))

    def _predicted(self, X: Any) -> Array:
        check_is_fitted(self, "params_")
        x = validate_data(self, X, dtype=self._dtype(), reset=False)
        out: Array = evaluation.predict(self.net_, self.params_, x, workers=self.workers)
        return out


class Classifier(ClassifierMixin, _Estimator):  # type: ignore[misc]
    """A network that tells classes apart, as a scikit-learn estimator.

    Parameters
    ----------
    net : Layer or callable, optional
        From ``(N, n_features)`` to one logit for each class, or a function
        ``(n_features, n_outputs) -> Layer``; by default one hidden layer of 100.
    loss : Loss, optional
        Of logits and integer classes; by default `funcnn.softmax_cross_entropy`.
    optimizer : Optimizer, optional
        By default ``adam(0.001)``.
    epochs : int, default 200
        Passes over the examples.
    batch_size : int, optional
        Examples in a step; by default all of them, and at most 200.
    early_stopping : bool, default False
        Whether to hold out a part of the examples, stop when their loss no longer falls, and keep
        the best parameters.
    validation_fraction : float, default 0.1
        What part that is; each class has its share of it.
    patience : int, default 10
        Epochs without a smaller loss after which to stop.
    class_weight : dict or "balanced", optional
        What each class counts; ``"balanced"`` gives all classes the same weight.
    warm_start : bool, default False
        Whether `fit` goes on from the parameters of the last one.
    random_state : int, RandomState or None, default None
        The only source of chance; an int is ``random.key(random_state)``.
    workers : int, optional
        Threads; the bits do not depend on their number.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        What `predict` gives.
    net_, params_ : Layer, dict
        The trained network.
    history_ : dict of str to ndarray
        See `funcnn.training.FitResult`.
    n_epochs_ : int
        Passes made.
    n_features_in_ : int
        Columns of ``X``.

    Raises
    ------
    ValueError, TypeError
        For what scikit-learn refuses in examples, and funcnn in a network.

    Notes
    -----
    The numbers are those of `funcnn.fit` with the same examples, key and batches, to the bit. They are
    float32 where ``X`` is, and float64 otherwise, as in scikit-learn.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.interop.sklearn import Classifier
    >>> X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> y = np.array(["same", "other", "other", "same"])
    >>> Classifier(random_state=0).fit(X, y).predict(X)
    array(['same', 'other', 'other', 'same'], dtype='<U5')
    """

    def __init__(
        self,
        net: Network | None = None,
        *,
        loss: Loss | None = None,
        optimizer: Optimizer | None = None,
        epochs: int = 200,
        batch_size: int | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        class_weight: Mapping[Any, float] | str | None = None,
        warm_start: bool = False,
        random_state: Any = None,
        workers: int | None = None,
    ) -> None:
        super().__init__(
            net, loss=loss, optimizer=optimizer, epochs=epochs, batch_size=batch_size,
            early_stopping=early_stopping, validation_fraction=validation_fraction, patience=patience,
            warm_start=warm_start, random_state=random_state, workers=workers,
        )  # fmt: skip
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Classifier:
        """Train on examples and their classes.

        Parameters
        ----------
        X : array-like of shape (n_examples, n_features)
            Examples.
        y : array-like of shape (n_examples,)
            Their classes, of any kind that sorts.
        sample_weight : array-like of shape (n_examples,), optional
            What each example counts, at least 0.

        Returns
        -------
        Classifier
            Itself.
        """
        going_on = self.warm_start and hasattr(self, "params_")
        x, y, weight = self._checked(X, y, sample_weight, begin=not going_on)
        check_classification_targets(y)
        if going_on:
            self._refuse_other_classes(y)
        else:
            self.classes_ = np.unique(y)
        self._fitted(x, *self._codes(y, weight))
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Classifier:
        """Take one pass over some examples, and go on from where the last one ended.

        Parameters
        ----------
        X, y, sample_weight : array-like
            As for `fit`.
        classes : array-like, optional
            All classes that there will ever be; needed at the first call.

        Returns
        -------
        Classifier
            Itself.
        """
        first = not hasattr(self, "params_")
        if first and classes is None:
            raise ValueError("Classifier: `classes` must be given at the first call of partial_fit")
        x, y, weight = self._checked(X, y, sample_weight, begin=first)
        check_classification_targets(y)
        if first:
            self.classes_ = np.unique(classes)
        elif classes is not None and not np.array_equal(self.classes_, np.unique(classes)):
            raise ValueError(f"Classifier: `classes` must stay {self.classes_}, got {classes}")
        self._refuse_other_classes(y)
        self._continued(x, *self._codes(y, weight))
        return self

    def predict_proba(self, X: Any) -> Array:
        """The probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_examples, n_features)
            Examples.

        Returns
        -------
        ndarray of shape (n_examples, n_classes)
            In the order of ``classes_``.
        """
        found: Array = softmax().apply({}, self._predicted(X))[0]
        return found

    def predict(self, X: Any) -> Array:
        """The class of the largest logit.

        Parameters
        ----------
        X : array-like of shape (n_examples, n_features)
            Examples.

        Returns
        -------
        ndarray of shape (n_examples,)
            Elements of ``classes_``.
        """
        logits = self._predicted(X)
        found: Array = self.classes_[np.argmax(logits, 1)]
        return found

    def _codes(self, y: Array, weight: Array | None) -> tuple[Array, Array | None]:
        """Places in `classes_`, and weights with those of the classes."""
        if self.class_weight is not None:
            own = compute_sample_weight(self.class_weight, y)
            weight = own if weight is None else own * weight
        return np.searchsorted(self.classes_, y), weight

    def _refuse_other_classes(self, y: Array) -> None:
        if not np.isin(y, self.classes_).all():
            raise ValueError(f"Classifier: `y` must be of the classes {self.classes_}")

    def _outputs(self, target: Array) -> int:
        return len(self.classes_)

    def _default_loss(self) -> Loss:
        return softmax_cross_entropy()


class Regressor(RegressorMixin, _Estimator):  # type: ignore[misc]
    """A network that predicts numbers, as a scikit-learn estimator.

    Parameters
    ----------
    net : Layer or callable, optional
        From ``(N, n_features)`` to ``(N, n_targets)``, or a function
        ``(n_features, n_outputs) -> Layer``; by default one hidden layer of 100.
    loss : Loss, optional
        By default `funcnn.mean_squared_error`.
    optimizer, epochs, batch_size, early_stopping, validation_fraction, patience
        As in `Classifier`.
    warm_start, random_state, workers
        As in `Classifier`.

    Attributes
    ----------
    net_, params_, history_, n_epochs_, n_features_in_
        As in `Classifier`.

    Raises
    ------
    ValueError, TypeError
        For what scikit-learn refuses in examples, and funcnn in a network.

    Notes
    -----
    Targets are taken as they are: where they are far from 0 or widely spread, scikit-learn's
    ``TransformedTargetRegressor`` brings them into reach.

    Examples
    --------
    >>> import numpy as np
    >>> from funcnn.interop.sklearn import Regressor
    >>> X = np.linspace(-1, 1, 20)[:, None]
    >>> model = Regressor(random_state=0).fit(X, X[:, 0] ** 2)
    >>> bool(model.score(X, X[:, 0] ** 2) > 0.9)
    True
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Regressor:
        """Train on examples and their targets.

        Parameters
        ----------
        X : array-like of shape (n_examples, n_features)
            Examples.
        y : array-like of shape (n_examples,) or (n_examples, n_targets)
            Numbers.
        sample_weight : array-like of shape (n_examples,), optional
            What each example counts, at least 0.

        Returns
        -------
        Regressor
            Itself.
        """
        going_on = self.warm_start and hasattr(self, "params_")
        self._fitted(*self._numbers(X, y, sample_weight, begin=not going_on))
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Regressor:
        """Take one pass over some examples, and go on from where the last one ended.

        Parameters
        ----------
        X, y, sample_weight : array-like
            As for `fit`.

        Returns
        -------
        Regressor
            Itself.
        """
        self._continued(*self._numbers(X, y, sample_weight, begin=not hasattr(self, "params_")))
        return self

    def predict(self, X: Any) -> Array:
        """What the network gives.

        Parameters
        ----------
        X : array-like of shape (n_examples, n_features)
            Examples.

        Returns
        -------
        ndarray of shape (n_examples,) or (n_examples, n_targets)
            As ``y`` was.
        """
        out = self._predicted(X)
        return out[:, 0] if self._flat else out

    def _numbers(self, X: Any, y: Any, weight: Any, *, begin: bool) -> tuple[Array, Array, Any]:
        x, y, weight = self._checked(X, y, weight, begin=begin, y_numeric=True, multi_output=True)
        self._flat = y.ndim == 1
        return x, y.reshape(len(y), -1).astype(x.dtype), weight

    def _outputs(self, target: Array) -> int:
        return int(target.shape[1])

    def _default_loss(self) -> Loss:
        return mean_squared_error()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
