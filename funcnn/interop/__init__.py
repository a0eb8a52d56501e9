"""Neighbours: what comes from other libraries, and what goes to them.

Each module needs the library it is named after, an extra that only this module imports:
`funcnn.interop.sklearn`, `funcnn.interop.torch`, `funcnn.interop.onnx`.
"""
