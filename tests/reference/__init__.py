"""Equality with other frameworks."""
