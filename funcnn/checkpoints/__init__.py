"""Checkpoints: a tree in one file, whole or not there at all.

Examples
--------
>>> import pathlib, tempfile
>>> import numpy as np
>>> from funcnn import checkpoints
>>> file = pathlib.Path(tempfile.mkdtemp()) / "net.npz"
>>> checkpoints.save(file, {"dense1": {"bias": np.zeros(2)}})
>>> checkpoints.load(file)
({'dense1': {'bias': array([0., 0.])}}, {})
"""

from __future__ import annotations

from funcnn.checkpoints.archives import load, save, write_whole
from funcnn.checkpoints.safetensors import load_safetensors, save_safetensors

__all__ = ["load", "load_safetensors", "save", "save_safetensors", "write_whole"]
