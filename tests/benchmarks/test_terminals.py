"""experiments/benchmarks/terminals.py: what it counts in what a sweep prints."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


@pytest.fixture
def terminals(scripts: Path) -> ModuleType:
    import terminals

    return terminals


def ended(terminals: ModuleType, *at: float) -> Any:
    return terminals.Terminal(SimpleNamespace(returncode=0), list(at))


def test_cells_count_from_when_every_terminal_has_ended_its_first(terminals: ModuleType) -> None:
    found = [ended(terminals, 10.0, 20.0, 30.0), ended(terminals, 14.0, 24.0, 34.0)]
    assert terminals.an_hour(found) == 3600 * 4 / (34 - 14)


def test_a_terminal_that_had_nothing_to_do_ends_it_in_words(terminals: ModuleType) -> None:
    with pytest.raises(SystemExit, match="give more --cells"):
        terminals.an_hour([ended(terminals, 10.0, 20.0), ended(terminals)])
    with pytest.raises(SystemExit, match="give more --cells"):
        terminals.an_hour([ended(terminals, 10.0), ended(terminals, 14.0)])


def test_turns_of_terminals_become_a_table(
    terminals: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[int, str]] = []

    def together(n: int, overrides: list[str]) -> list[Any]:
        asked.append((n, overrides[-1]))
        return [ended(terminals, *(10.0 * n * cell for cell in range(1, 5))) for _ in range(n)]

    monkeypatch.setattr(terminals, "together", together)
    monkeypatch.setattr(terminals.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    terminals.main(["--cells", "2", "--rounds", "2", "model=tiny"])
    assert asked[1:] == [  # each cell is trained once, and the numbers of terminals take turns
        (1, "train_seed=1,2"),
        (2, "train_seed=3,4,5,6"),
        (2, "train_seed=7,8,9,10"),
        (1, "train_seed=11,12"),
    ]
    assert "| 2 | 360 | 360 to 360 | 1.00 |" in capsys.readouterr().out
