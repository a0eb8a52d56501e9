"""Cases for the laws: every module in here is found by `tests.registry`.

A module holds any of the lists `LAYERS`, `LOSSES` and `INITIALIZERS`.
"""
