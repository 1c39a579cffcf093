"""The numbers that a parameter may have, as its annotation: the check of the configuration holds every
component to them before any work.

NaN, infinities and what no library takes are refused for every parameter, whatever its annotation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field

# the largest seed that numpy, scikit-learn and transformers take; no count needs more
LARGEST_WHOLE = 2**32 - 1
LARGEST = 1e100  # of a float: the powers and products of larger ones are no numbers

Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


def unusable(value: Any) -> Iterator[str]:
    """What is wrong with the numbers in a value, at any depth."""
    if isinstance(value, (dict, list, tuple)):
        for inside in value.values() if isinstance(value, dict) else value:
            yield from unusable(inside)
    elif isinstance(value, int) and abs(value) > LARGEST_WHOLE:
        yield f"{value} is out of reach: a whole number is at most {LARGEST_WHOLE}"
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{value} is not a number that can be used: give a finite one"
    elif isinstance(value, float) and abs(value) > LARGEST:
        yield f"{value} is out of reach: a number is at most {LARGEST:g}"
