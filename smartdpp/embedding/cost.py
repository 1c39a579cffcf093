"""What embedding a corpus will cost, from what it cost before on this machine: no guess where nothing was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from smartdpp.store import META, provenance, read_json


def estimate(root: Path, params: dict[str, Any], n: int, tokens: int) -> str:
    """One line for n examples of so many tokens: seconds by the latest measured rate, bytes by the embedding's own parameters."""
    rate = measured_rate(root, params)
    time = f"about {tokens / rate:,.0f} s at {rate:,.0f} tokens/s measured here" if rate else "time unknown until it was measured here once"
    sized = "dim" in params and params.get("projection") != "exact"
    size = f", {n * params['dim'] * np.dtype(params.get('store', 'float32')).itemsize / 1e6:,.1f} MB on disk" if sized else ""
    return f"{tokens:,} tokens, {time}{size}"


def measured_rate(root: Path, params: dict[str, Any]) -> float | None:
    """Tokens per second of the latest embedding of this kind (component, model, layers, projection) made on a machine like this one."""

    def kind(of: dict[str, Any]) -> list[Any]:
        return [of.get(name) for name in ("_target_", "model", "layers", "projection")]

    metas = sorted((root / "store" / "embedding").glob(f"*/{META}"), key=lambda path: path.stat().st_mtime, reverse=True)
    for meta in map(read_json, metas):
        facts = meta["facts"]
        if kind(meta["params"]) == kind(params) and meta["machine"] == provenance()["machine"] and facts.get("tokens"):
            return facts["tokens"] / facts["seconds"]
    return None
