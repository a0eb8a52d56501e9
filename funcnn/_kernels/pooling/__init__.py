"""Pooling: the largest or the mean of what windows and bins see."""
