"""What a pass of a model over the corpus will cost, from what it cost before on this machine: no guess where
nothing was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from smartdpp.logs.redact import redacted
from smartdpp.store.disk import META, read_json
from smartdpp.store.record import provenance

# the parameters that decide what a token costs
KIND = ("_target_", "pass", "model", "layers", "projection", "rank", "warmup", "preconditioner")


def estimate(root: Path, stage: str, params: dict[str, Any], n: int, tokens: int) -> str:
    """One line for n vectors from so many tokens: seconds by the latest measured rate, bytes by the
    parameters or what was made then."""
    before = measured(root, stage, params)
    if before:
        rate = before["tokens"] / before["seconds"]
        time = f"about {tokens / rate:,.0f} s at {rate:,.0f} tokens/s measured here"
    else:
        time = "time unknown until it was measured here once"
    dim = params.get("dim") if params.get("projection") != "exact" else None
    kept = dim or (before and before["d"])
    size = (
        f", {n * kept * np.dtype(params.get('store', 'float32')).itemsize / 1e6:,.2f} MB on disk"
        if kept
        else ""
    )
    return f"{tokens:,} tokens, {time}{size}"


def measured(root: Path, stage: str, params: dict[str, Any]) -> dict[str, Any] | None:
    """Facts of the latest artifact of this stage and KIND that was made on a machine like this one:
    ``tokens``, ``seconds``, ``d``."""

    def kind(of: dict[str, Any]) -> list[Any]:
        return [of.get(name) for name in KIND]

    metas = sorted(
        (root / "store" / stage).glob(f"*/{META}"), key=lambda path: path.stat().st_mtime, reverse=True
    )
    for meta in map(read_json, metas):
        facts = meta["facts"]
        # no tokens: all was resumed; no seconds: signals of an earlier version
        if (
            kind(meta["params"]) == kind(redacted(params))
            and meta["machine"] == provenance()["machine"]
            and facts.get("tokens")
            and "seconds" in facts
        ):
            return facts
    return None
