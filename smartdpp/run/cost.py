"""What a pass of a model over the corpus will cost, from what it cost before on this machine: no guess where
nothing was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from smartdpp.logs.redact import redacted
from smartdpp.store.disk import META, read_object
from smartdpp.store.record import provenance

# the parameters that decide what a token costs
KIND = ("_target_", "pass", "model", "layers", "projection", "rank", "warmup", "preconditioner")


def estimate(
    root: Path, stage: str, params: dict[str, Any], n: int, tokens: int, d: int | None = None
) -> str:
    """One line for n vectors of d numbers from so many tokens: seconds by the latest measured rate, bytes,
    where d is not known, by what was made then."""
    before = measured(root, stage, params)
    if before:
        rate = before["tokens"] / before["seconds"]
        time = f"about {tokens / rate:,.0f} s at {rate:,.0f} tokens/s measured here"
    else:
        time = "time unknown until it was measured here once"
    kept = d or (before and before.get("d"))
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
    for meta in map(_read, metas):
        facts = meta.get("facts")
        # no tokens: all was resumed; no seconds: signals of an earlier version, or too few to be measured
        if (
            isinstance(facts, dict)
            and kind(meta.get("params") or {}) == kind(redacted(params))
            and meta.get("machine") == provenance()["machine"]
            and facts.get("tokens")
            and facts.get("seconds")
        ):
            return facts
    return None


def _read(meta: Path) -> dict[str, Any]:
    """Empty of what is damaged or not ours to read: who needs that artifact is told."""
    try:
        found = read_object(meta)
    except OSError:
        return {}
    return {} if isinstance(found, str) else found
