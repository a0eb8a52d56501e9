"""The maths beneath the layers: array in, array out. Nothing here knows what a layer is."""
