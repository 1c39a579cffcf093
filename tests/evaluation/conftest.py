from __future__ import annotations

import pytest

from .lively import Lively


@pytest.fixture
def model() -> Lively:
    return Lively()
