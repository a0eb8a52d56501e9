"""Settings of the test run."""

from __future__ import annotations

import gc


def pytest_collection_finish() -> None:
    """Take the ten thousand collected tests out of every later garbage collection."""
    gc.collect()
    gc.freeze()
