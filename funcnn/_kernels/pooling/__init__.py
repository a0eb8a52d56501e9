"""Pooling: the largest or the mean of what windows and bins see.

`textbook` goes tap by tap; `separable` axis by axis, which is faster; `bins` into a given number of
places, `means` lets windows overhang, `norms` has Lp norms, and `unpooling` is the way back.
"""
