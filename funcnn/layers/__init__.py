"""Layers, one file for each family. Files in here never import each other."""
