"""What every quality score must be: a positive, finite number, because its logarithm weighs the selection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from smartdpp.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa


def positive(score: np.ndarray, name: str, rows: pa.Table, *, invert: bool = False) -> np.ndarray:
    """float64[n]: the score itself, or 1 / score where ``invert``. InputError naming the first example whose
    score is not positive."""
    bad = np.flatnonzero(~((score > 0) & np.isfinite(score)))
    if len(bad):
        raise InputError(
            f"quality={name} is not positive for {len(bad)} of {len(score)} examples, the first being "
            f"{rows['id'][int(bad[0])].as_py()!r} ({score[bad[0]]:g}): drop these examples or choose "
            "another quality."
        )
    return 1 / score if invert else score
