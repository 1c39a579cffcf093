"""A component crosses to another process as its configuration, and what that process refuses comes back as one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.utils import instantiate

from smartdpp.embedding.gradient import Gradient
from smartdpp.errors import InputError
from smartdpp.launch import REFUSED, as_config, launch, refusals
from smartdpp.models import Tiny


def test_a_component_is_made_again_from_its_configuration() -> None:
    component = Gradient(Tiny(hidden_size=64), dim=7)
    config = as_config(component)
    assert config["model"]["_target_"] == "smartdpp.models.Tiny"
    assert instantiate(config) == component


def test_a_refusal_in_a_process_is_a_refusal_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit), refusals(tmp_path):
        raise InputError("row 7 has no response")
    with pytest.raises(InputError, match=r"^row 7 has no response$"):
        launch("platform", tmp_path, 1)
    assert not (tmp_path / REFUSED).exists()
