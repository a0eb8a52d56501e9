"""The one place for arithmetic whose bits could differ between machines.

``+ - * /``, ``sqrt``, comparisons, `maximum` and moving data give the same bits everywhere: any
room may use NumPy for them. (Two things are the processor's choice, in either mode: the sign of the
larger of 0.0 and -0.0, and which of its many bit patterns a NaN has.) Products of matrices, sums and
transcendental functions do not: they are called here. There are two modes.

*fast* (the default)
    NumPy and its BLAS, or compiled kernels. The same bits again on one machine with the same NumPy.
*portable*
    The same bits on every machine with IEEE 754 arithmetic, whatever its BLAS, its threads and its
    vector unit: own algorithms, built from ``+ - * /``, ``sqrt`` and matrix products in which every
    operation is exact.

    Entered for the first time in a process, it tries in some milliseconds whether the machine rounds
    as IEEE 754 says and multiplies whole numbers right, and refuses if not.

The mode is a context variable: ``with numerics.portable():`` holds inside the block, in this
thread. A new thread starts in the default mode; give it the mode of its maker by running it in
``contextvars.copy_context()``. The default is *fast*, or what the environment variable
``FUNCNN_NUMERICS`` says when the package is imported.

Examples
--------
>>> import numpy as np
>>> from funcnn import numerics
>>> with numerics.portable():
...     numerics.mode(), numerics.exp(np.zeros(2, np.float32))
('portable', array([1., 1.], dtype=float32))
"""

from __future__ import annotations

from funcnn._lazy import lazily
from funcnn.numerics import modes, sets  # noqa: F401  (what the environment says holds from now on)
from funcnn.numerics.counting import counting  # noqa: F401  (importing the module late would hide it)

__all__, __getattr__, __dir__ = lazily(__name__)
