"""Several processes: ranks that train one network with the same bits as one process, and sweeps."""

from __future__ import annotations

from funcnn._lazy import lazily

__all__, __getattr__, __dir__ = lazily(__name__)
