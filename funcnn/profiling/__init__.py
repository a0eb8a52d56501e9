"""What a network is and costs, from shapes alone: as a table, and as a picture."""

from __future__ import annotations

from funcnn.profiling._measure import Row
from funcnn.profiling._table import Summary, summary

__all__ = ["Row", "Summary", "summary"]
