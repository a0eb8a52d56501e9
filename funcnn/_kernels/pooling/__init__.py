"""Pooling: the largest or the mean of what windows and bins see.

`textbook` goes tap by tap; `separable` axis by axis, which is faster; `bins` into a given number of
places, `means` lets windows overhang, and `norms` has Lp norms.
"""
