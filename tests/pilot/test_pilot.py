"""Would selection pay here?"""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smartdpp.errors import Diverged
from smartdpp.evaluation.intervals import Difference, paired_difference
from smartdpp.pilot import command, sequential
from smartdpp.pilot.cells import Asked, made
from smartdpp.pilot.page import Found, answer
from smartdpp.pilot.page import told as page_and_figure
from smartdpp.pilot.sequential import ALPHA, LOOKS, as_good, level, verdict


def gain(mean: float, half: float, p: float) -> Difference:
    return Difference(mean, half, half, 0.0, p, 8, 100)


def test_a_way_is_better_at_a_level_that_looks_and_ways_share() -> None:
    sure, unsure = gain(0.3, 0.1, 0.001), gain(0.3, 0.1, 0.01)
    assert verdict({"a": sure, "b": gain(0.0, 0.1, 0.9)}, 0.05).better == ("a",)
    assert verdict({"a": unsure, "b": gain(0.0, 0.1, 0.9)}, 0.05).state == "undecided"
    assert verdict({"a": gain(-0.3, 0.1, 0.0001)}, 0.05).state == "random"


def test_the_looks_together_spend_the_whole_error_and_most_of_it_late() -> None:
    parts = [level(look) for look in LOOKS]
    assert sum(parts) == pytest.approx(ALPHA)
    assert parts[0] > 0
    assert parts[-1] == max(parts)
    assert level(LOOKS[0] + 1) == 0
    between = replace(gain(0.3, 0.01, 1e-9), seeds=LOOKS[0] + 1)
    assert verdict({"a": between}, 0.05).state == "undecided"


def test_random_is_as_good_where_no_gain_that_matters_is_left() -> None:
    assert verdict({"a": gain(0.01, 0.02, 0.3), "b": gain(-0.1, 0.1, 0.04)}, 0.05).state == "random"
    assert verdict({"a": gain(0.01, 0.05, 0.7)}, 0.05).state == "undecided"
    assert verdict({"a": gain(0.01, np.nan, np.nan)}, 0.05).state == "undecided"


def test_the_cheapest_of_those_as_good_as_the_best_is_taken() -> None:
    gains = {"dear": gain(0.5, 0.1, 1e-4), "cheap": gain(0.45, 0.1, 1e-4), "weak": gain(0.1, 0.05, 1e-4)}
    seconds = {"dear": 100.0, "cheap": 1.0, "weak": 0.1}
    assert as_good(gains, ("dear", "cheap", "weak"), seconds) == "cheap"


@pytest.mark.parametrize(("true", "most_called"), [(0.0, 0.05), (1.0, 1.0)])
def test_looking_again_and_again_calls_nothing_better_too_often(true: float, most_called: float) -> None:
    rng, called = np.random.default_rng(0), 0
    for _ in range(300):
        noise = rng.normal(0, 1, (LOOKS[-1], 3))  # random's, and two ways'
        for look in LOOKS:
            gains = {
                way: paired_difference((noise[:look, way] + true * 1.5 - noise[:look, 0]).tolist(), [])
                for way in (1, 2)
            }
            if verdict({str(way): one for way, one in gains.items()}, 0.0).state == "select":
                called += 1
                break
    assert called / 300 <= most_called
    assert true == 0 or called / 300 > 0.5


def told(**of: Any) -> str:
    gains = {"towards the target": gain(0.3, 0.1, 1e-5), "diverse": gain(0.0, 0.1, 0.9)}
    asked = Asked("pool", "target", 40, 50, 8, Path("root"))
    plain = Found(asked, "loss", 3.5, 3.2, gains, dict.fromkeys(gains, 2.0), 900, 0.05, False, 30.0)
    return answer(replace(plain, **of))


def test_the_paragraph_says_what_the_mixture_that_is_meant_would_cost() -> None:
    said = told(training=3.6, full=1000)
    assert said.startswith("**Yes: towards the target.** It gains +0.300 ± 0.100 nats/token over random rows")
    assert said.endswith("Training on 1000 rows would take 1.0 hours on this machine, however chosen.")
    assert "would take" not in told(training=3.6)


def test_what_is_not_decided_is_a_choice_too() -> None:
    said = told(gains={"diverse": gain(0.05, 0.1, 0.4)}, dear=True)
    assert said.startswith("**Not decided, and the price is reached: take random rows until more is known.**")
    assert "Gains up to 0.150 nats/token are possible; at this look one of 0." in said


def test_a_pilot_that_ends_between_two_looks_says_so_and_one_of_one_seed_has_no_interval() -> None:
    between = {"diverse": replace(gain(0.05, 0.1, 0.4), seeds=6)}
    assert "are possible; nothing is called between two looks" in told(gains=between, dear=True)
    one = {"diverse": paired_difference([0.3], [])}
    assert "1 seed, 30 minutes" in told(gains=one, dear=True)
    found = Found(
        Asked("pool", "target", 40, 50, 8, Path("root")), "loss", 3.5, 3.2, one, {"diverse": 2.0},
        900, 0.05, True, 30.0,
    )  # fmt: skip
    page, _ = page_and_figure(found)
    assert "nan" not in page
    assert "+0.300" in page


def test_what_would_have_shown_is_meant_at_the_looks_own_level() -> None:
    """Of pilots with that gain, eight of ten call it at that look."""
    rng, look, called = np.random.default_rng(0), LOOKS[1], 0
    half = paired_difference([-1.0, 1.0] * (look // 2), []).half
    said = told(gains={way: replace(gain(0.0, half, 0.9), seeds=look) for way in "ab"}, dear=True)
    shown = float(said.partition("one of ")[2].split()[0])
    sd = half / paired_difference([-1.0, 1.0] * (look // 2), []).half * np.std([-1, 1] * (look // 2), ddof=1)
    for _ in range(1000):
        drawn = paired_difference(rng.normal(shown, sd, look).tolist(), [])
        called += verdict({"a": drawn, "b": gain(0.0, 0.1, 0.9)}, 0.0).state == "select"
    assert 0.78 <= called / 1000 <= 0.95


def test_a_way_whose_training_diverges_is_left_out_and_named(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def diverging(asked: Asked, way: str, seed: int) -> Path:
        if way == "diverse" and seed == 1:
            raise Diverged("training diverged: the loss is nan after it")
        return made(asked, way, seed)

    for module in (command, command.told.__globals__):
        monkeypatch.setitem(module.__dict__ if hasattr(module, "__dict__") else module, "LOOKS", (2,))
    monkeypatch.setattr(sequential, "LOOKS", (2,))
    monkeypatch.setattr(command, "made", diverging)
    words = [*map(str, files), "budget=5", "documents=4", f"root={tmp_path / 'root'}", "model=tiny"]
    words += ["embedding=tfidf", "embedding.dim=8", "embedding@probe=tfidf", "probe.dim=8"]
    assert command.main([*words, "ways=towards,diverse"]) == 0
    said = capsys.readouterr().out
    assert "diverse is left out: under seed 1 training diverged" in said
    assert "Left out, as training diverged: diverse." in said
    assert "towards the target" in said
    assert command.main([*words, "ways=diverse"]) == 1
    assert "error: training diverged" in capsys.readouterr().err


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    draw = random.Random(0)

    def rows(n: int) -> str:
        made = [
            {"task": "t", "prompt": f"{draw.random()} of {i}?", "response": f"{i % 7} is it"}
            for i in range(n)
        ]
        return "".join(json.dumps(row) + "\n" for row in made)

    pool, target = tmp_path / "pool one.jsonl", tmp_path / "target.jsonl"
    pool.write_text(rows(30))
    target.write_text(rows(12))
    return pool, target


def test_it_runs_seeds_until_the_most_and_goes_on_where_it_was(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(sequential, "LOOKS", (2,))
    for module in (command, command.told.__globals__):
        monkeypatch.setitem(module.__dict__ if hasattr(module, "__dict__") else module, "LOOKS", (2,))
    words = [
        *map(str, files),
        "budget=5",
        "full=1000",
        "documents=4",
        f"root={tmp_path / 'root'}",
        "model=tiny",
    ]
    words += ["embedding=tfidf", "embedding.dim=8", "embedding@probe=tfidf", "probe.dim=8"]
    assert command.main(words) == 0
    page = (tmp_path / "root" / "pilot.md").read_text()
    assert page in capsys.readouterr().out
    assert "5 of 30 rows, 2 seeds" in page
    assert {"towards the target", "diverse", "fitting answers", "nearest rows alone, as a bound"} <= {
        cell.strip() for line in page.splitlines() for cell in line.split("|")
    }
    assert (tmp_path / "root" / "pilot.png").is_file()

    def results() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in (tmp_path / "root").glob("runs/*/result.json")}

    before = results()
    assert len(before) == 10
    assert command.main(words) == 0
    assert results() == before
    assert command.main([*words, "ways=diverse"]) == 0
    assert results() == before
    page = (tmp_path / "root" / "pilot.md").read_text()
    assert "| diverse |" in page
    assert "towards the target" not in page
    assert "fitting" not in page


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["full=none"], "full=none: give a number from 1 on"),
        (["budget=0"], "budget=0: give a number from 1 on"),
        (["strategy=dpp"], "strategy=dpp: a pilot sets it by itself"),
        (["quality=ifd"], "quality=ifd: a pilot sets it by itself"),
        (["ways=diverse,dpp"], "ways=dpp: choose among towards,diverse,fitting"),
        (["ways="], "ways=: choose among towards,diverse,fitting"),
        (["bugdet=3"], "bugdet"),
        (["budget=1000"], "1000"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture, more: list[str], said: str
) -> None:
    words = [*map(str, files), f"root={tmp_path / 'root'}", "documents=4", "model=tiny", "embedding=tfidf"]
    assert command.main([*words, "embedding.dim=8", *more]) == 1
    assert said in capsys.readouterr().err


def test_one_file_is_not_enough(files: tuple[Path, Path], capsys: pytest.CaptureFixture) -> None:
    assert command.main([str(files[0])]) == 1
    assert "a pilot takes a pool and a target" in capsys.readouterr().err
