"""What a strategy that lives on the pool's quality asks first."""

from __future__ import annotations

import logging

import numpy as np

from smartdpp.errors import InputError
from smartdpp.types import Pool

logger = logging.getLogger(__name__)


def quality(pool: Pool, strategy: str, otherwise: str) -> np.ndarray:
    """float64[n], the pool's quality. InputError where there is none; where all are equal, ``otherwise`` says
    in a warning what decides then."""
    if pool.quality is None:
        raise InputError(
            f"strategy={strategy} needs a quality, but there is none: choose one (quality=response_tokens)."
        )
    if np.ptp(pool.quality) == 0:
        logger.warning("strategy=%s: the quality is the same for every example, so %s", strategy, otherwise)
    return np.asarray(pool.quality, dtype=np.float64)
