"""The frameworks that `scripts/bench.py` measures, each behind the same few words.

A module has ``variants() -> list[str]``, ``version() -> str`` and
``build(case, variant) -> callable``: one call of what comes back is one unit of work, finished when
it returns. Cases are plain data (see `cases.py`), so that they travel to worker processes.
"""
