"""What a machine without a GPU left is not gone on from by one that computes in another dtype."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from smartdpp.run.stage import Stage
from smartdpp.runtime import device
from smartdpp.store.artifact import Artifact


@pytest.mark.parametrize("then", ["float32", "bfloat16"])
def test_one_artifact_is_made_in_one_precision(
    then: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import torch

    artifact, found = Artifact(tmp_path, "adapter", 1, {}, {}), []

    def build(out: Path) -> dict[str, Any]:
        found.append(sorted(path.name for path in out.rglob("*")))
        (out / "checkpoints").mkdir(exist_ok=True)
        (out / "checkpoints" / str(len(found))).write_text("half")
        if len(found) < 3:
            raise KeyboardInterrupt
        return {}

    def make() -> bool:
        return Stage("adapter", "adapter", artifact, build, str, str).make()

    monkeypatch.setattr(device, "compute_dtype", lambda: torch.float32)
    with pytest.raises(KeyboardInterrupt):
        make()
    monkeypatch.setattr(device, "compute_dtype", lambda: getattr(torch, then))
    with pytest.raises(KeyboardInterrupt):
        make()
    make()
    same = then == "float32"
    assert found[1] == (["1", "checkpoints"] if same else [])
    assert found[2] == (["1", "2", "checkpoints"] if same else ["2", "checkpoints"])
    told = "has computed in float32, and this machine computes in bfloat16: starting afresh"
    assert caplog.text.count(told) == (not same)
    left = {path.name for path in artifact.path.parent.iterdir() if not path.name.endswith(".lock")}
    assert left == {artifact.key}
    assert {path.name for path in artifact.path.iterdir()} == {"checkpoints", "meta.json"}


def test_what_was_left_without_a_word_of_it_is_gone_on_from(tmp_path: Path) -> None:
    (out := tmp_path / "x.partial").mkdir()
    (out / "half").write_text("half")
    assert device.in_one_precision(lambda out: [path.name for path in out.iterdir()], out) == ["half"]
    assert list(tmp_path.iterdir()) == [out]
