"""A damaged run is told, with the file and what is wrong with it, and the others are reported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from synthetic_runs import finished_run

from smartdpp.report import main
from smartdpp.run.folder import artifacts
from smartdpp.run.sound import damage
from smartdpp.store import disk

JSON = (
    "result.json",
    "artifacts.json",
    "diversity/diversity.json",
    "base scores/scores.json",
    "scores/scores.json",
)
FILES = (
    *JSON,
    ".hydra/config.yaml",
    "mixture/tasks.csv",
    "mixture/mixture.jsonl",
    "mixture/rows.npy",
    "scores/samples.jsonl",
)
WAYS: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "random": lambda path: path.write_bytes(
        bytes((i * i * 31 + 7) % 256 for i in range(path.stat().st_size))
    ),
    "list": lambda path: path.write_text("[1, 2]"),
    "folder": lambda path: (path.unlink(), path.mkdir()),
    "missing": lambda path: path.unlink(),
}


def at(run: Path, name: str) -> Path:
    stage, _, file = name.partition("/")
    return artifacts(run)[stage] / file if file and not stage.startswith(".") else run / name


def record(run: Path) -> None:
    """Sizes and hashes, as the store keeps them."""
    for folder in artifacts(run).values():
        if not (folder / "meta.json").exists():
            disk.close_folder(folder, {"facts": {}})


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", FILES)
def test_damage_is_named_with_its_file(tmp_path: Path, name: str, way: str, recorded: bool) -> None:
    run = finished_run(tmp_path)
    if recorded:
        record(run)
    assert damage(run) is None
    path = at(run, name)
    WAYS[way](path)
    said = damage(run)
    gone = way == "missing" and (
        name in ("artifacts.json", ".hydra/config.yaml") or ("/" in name and not recorded)
    )
    without_a_trace = not recorded and (name, way) in {
        ("mixture/mixture.jsonl", "empty"),
        ("mixture/tasks.csv", "cut"),
    }
    # what is not there is left out of a report; what was cut between two lines shows by its record alone
    if gone or without_a_trace:
        assert said is None or path.name in said
    else:
        assert said is not None
        assert path.name in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"loss": float("nan")}, "loss is nan, not a number"),
        ({"loss": "2.0"}, "loss is '2.0', not a number"),
        ({"n": None}, "n is missing, not a whole number"),
        ({"seed": 1.5}, "seed is 1.5, not a whole number"),
        ({"budget": [40]}, "budget is [40], not a number"),
        ({"strategy": 3}, "strategy is 3, not a text"),
    ],
)
def test_a_result_of_wrong_kinds_is_damage(tmp_path: Path, change: dict, said: str) -> None:
    run = finished_run(tmp_path)
    row = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps(row | change))
    assert damage(run) == f"result.json: {said}"


def test_what_is_gone_from_the_store_is_no_damage(tmp_path: Path) -> None:
    import shutil

    run = finished_run(tmp_path)
    shutil.rmtree(tmp_path / "store")
    assert damage(run) is None


def test_one_report_of_sound_and_damaged_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 1):
        finished_run(tmp_path, f"sound-{seed}", seed=seed, loss=2.0 + seed)
    own = [
        (name, way)
        for name in FILES
        if not name.startswith("base")
        for way in ("empty", "cut", "random", "list", "folder")
    ]
    for i, (name, way) in enumerate(own):
        run = finished_run(tmp_path, f"damaged-{i:02}", seed=0, loss=9.0)
        record(run)
        WAYS[way](at(run, name))
    failed = finished_run(tmp_path, "failed", loss=9.0)
    (failed / "result.json").unlink()
    (failed / "error.txt").write_bytes(b"\xff\xfe\x00")
    assert main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "report.md").read_text()
    assert f"2 done, 1 failed, {len(own)} damaged" in text
    assert "python -m smartdpp.store verify ROOT" in text
    assert [text.count(f"| damaged-{i:02} | damaged |") for i in range(len(own))] == [1] * len(own)
    assert "2.500" in text
    assert "9.000" not in text
    rows = (tmp_path / "out" / "results.csv").read_text().splitlines()
    assert len(rows) == 1 + 2


def test_what_no_check_knows_is_found_by_trying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from smartdpp.report import compose

    for seed in (0, 1):
        finished_run(tmp_path, f"run-{seed}", seed=seed, loss=2.0 + seed)
    real = compose.collect

    def collect(runs: list[Path]) -> object:
        if any(run.name == "run-1" for run in runs):
            raise ZeroDivisionError("of a new kind")
        return real(runs)

    monkeypatch.setattr(compose, "collect", collect)
    assert main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "report.md").read_text()
    assert "1 done, 1 damaged" in text
    assert "what it holds cannot be read (ZeroDivisionError: of a new kind)" in text
