"""Pooling: the largest or the mean of what windows and bins see.

`textbook` goes tap by tap; `separable` axis by axis, which is faster; `bins` into a given number of
places, and `means` has what stands on means: windows that overhang, and Lp norms.
"""
