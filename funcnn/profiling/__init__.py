"""What a network is and costs: as a table, measured, and as a picture."""

from __future__ import annotations

from funcnn.profiling._table import Row, Summary, summary

__all__ = ["Row", "Summary", "summary"]
