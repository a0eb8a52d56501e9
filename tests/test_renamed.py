"""Modules under their names of version 0.1 still work, and say what they are called now."""

from __future__ import annotations

from importlib import import_module

import pytest

import funcnn

RENAMED = {
    "looking": ("plots", "curves"),
    "outline": ("profiling", "summary"),
    "sequences": ("combinators", "keep_context"),
    "reparametrization": ("combinators.reparametrization", "weight_norm"),
}


@pytest.mark.parametrize("old", RENAMED)
def test_an_old_name_works_and_warns(old: str) -> None:
    new, name = RENAMED[old]
    module = import_module(f"funcnn.{old}")
    assert getattr(funcnn, old) is module
    with pytest.warns(DeprecationWarning, match=f"funcnn.{old} is funcnn.{new} now"):
        found = getattr(module, name)
    assert found is getattr(import_module(f"funcnn.{new}"), name)
    with pytest.raises(AttributeError, match=f"module 'funcnn.{old}' has no attribute 'nothing'"):
        module.nothing  # noqa: B018
