"""Every layer, forward and backward at batch 32, against PyTorch's."""

from __future__ import annotations

from pkgutil import iter_modules

from benchmarks import catalogue
from benchmarks.cases import Case
from benchmarks.turns import Row, Worker, compare, measure, probe


def layer_rows(rounds: int, seconds: float, only: str) -> list[Row]:
    """A row for each layer whose name has `only` in it; PyTorch's best thread count and format."""
    if missing := unmeasured():
        raise LookupError(f"no case measures {', '.join(missing)}")
    workers = [
        Worker(framework, variant)
        for framework in ("funcnn", "torch")
        for variant in (probe(framework) or {"variants": []})["variants"]
    ]
    rows: list[Row] = []
    try:
        for entry in catalogue.LAYERS:
            if only in entry.name:
                case = Case(entry.name, "layer", (), ())
                rows.append(compare(entry.name, measure(case, workers, rounds, seconds), most=3.0))
    finally:
        for worker in workers:
            worker.close()
    return rows


def unmeasured() -> list[str]:
    """Public layers that the catalogue lacks."""
    from importlib import import_module

    import funcnn.layers

    public = {
        name
        for info in iter_modules(funcnn.layers.__path__)
        for name in import_module(f"funcnn.layers.{info.name}").__all__
    }
    public |= {"transformer_encoder_block", "transformer_decoder_block"}
    return sorted(public - {entry.ours.partition("(")[0] for entry in catalogue.LAYERS})
