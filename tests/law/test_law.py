"""What a mixture is worth, as a function of its weights."""

import json
from pathlib import Path

import numpy as np
import pytest

from smartdpp.law.best import best, held_out
from smartdpp.law.command import main
from smartdpp.law.forms import FORMS, Loglinear
from tests.synthetic_runs import finished_run

M, J = 4, 3


def world(n: int, noise: float = 0.0, seed: int = 0):
    """Weights of n mixtures and their losses by a log-linear law."""
    rng = np.random.default_rng(seed)
    W = rng.dirichlet(np.ones(M), size=n)
    c, t = np.log(rng.uniform(0.5, 1.0, J)), rng.normal(0, 1, (J, M))
    return W, np.exp(c) + np.exp(W @ t.T) + noise * rng.normal(size=(n, J)), c, t


def test_a_loglinear_law_is_found_again():
    W, L, c, t = world(60)
    fresh = world(200, seed=9)[0]
    assert np.abs(Loglinear().fit(W, L)(fresh) - np.exp(c) - np.exp(fresh @ t.T)).max() < 0.03


@pytest.mark.parametrize(("form", "least"), [("loglinear", 0.95), ("linear", 0.9), ("lightgbm", 0.5)])
def test_every_form_orders_mixtures_that_it_has_not_seen(form, least):
    pytest.importorskip("lightgbm" if form == "lightgbm" else "sklearn")
    W, L, _, _ = world(60, noise=0.01)
    foreseen = held_out(FORMS[form](), W, L, np.random.default_rng(0)).mean(1)
    assert np.corrcoef(foreseen, L.mean(1))[0, 1] > least


def test_the_best_weights_are_near_the_best_of_a_fine_grid():
    W, L, _, _ = world(60)
    predict = Loglinear().fit(W, L)
    grid = np.random.default_rng(1).dirichlet(np.ones(M), size=200_000)
    found = best(predict, np.full(M, 1 / M), np.ones(M), 0.0, np.random.default_rng(0))
    assert found.sum() == pytest.approx(1)
    assert predict(found[None]).mean() <= predict(grid).mean(1).min() + 0.01


def test_no_weight_is_above_its_cap_and_a_high_price_keeps_the_pools_own():
    W, L, _, _ = world(60)
    predict, most = Loglinear().fit(W, L), np.array([0.3, 0.3, 0.5, 0.4])
    prior = np.array([0.4, 0.1, 0.2, 0.3])
    capped = best(predict, prior, most, 0.0, np.random.default_rng(0))
    assert (capped <= most + 1e-9).all()
    kept = best(predict, prior, np.ones(M), 100.0, np.random.default_rng(0))
    assert np.abs(kept - prior).max() < 0.05


def sweep(root: Path, n: int, better: str = "maze") -> None:
    rng = np.random.default_rng(0)
    for i, weights in enumerate(rng.dirichlet(np.ones(3), size=n)):
        counts = np.floor(40 * weights).astype(int)
        counts[0] += 40 - counts.sum()
        selected = dict(zip(("chain_sum", "maze", "dice"), counts.tolist(), strict=True))
        loss = 3.0 - selected[better] / 40
        finished_run(root, f"mixture{i}", strategy="dirichlet", seed=i, loss=loss, selected=selected)


@pytest.mark.parametrize("law", ["loglinear", "linear"])
def test_a_sweep_tells_its_best_mixture_and_how_well_it_is_foreseen(tmp_path, capsys, law):
    sweep(tmp_path, 24)
    assert (
        main([str(tmp_path / "runs"), "--law", law, "--kl", "0", "--repeat", "4", "--out", str(tmp_path)])
        == 0
    )
    page = (tmp_path / "law.md").read_text()
    assert page in capsys.readouterr().out
    assert (tmp_path / "law.png").stat().st_size > 1000
    line = next(line for line in page.splitlines() if line.startswith("| maze"))
    assert float(line.split("|")[4]) > 0.8
    assert "strategy.weights={maze: " in page
    assert "from 24 mixtures of 3 tasks" in page


def test_too_few_runs_or_other_budgets_are_one_sentence(tmp_path, capsys):
    sweep(tmp_path, 4)
    assert main([str(tmp_path / "runs"), "--out", str(tmp_path)]) == 1
    assert "a law needs 5 runs at least" in capsys.readouterr().err
    result = tmp_path / "runs" / "mixture0" / "result.json"
    result.write_text(json.dumps(json.loads(result.read_text()) | {"n": 39}))
    assert main([str(tmp_path / "runs"), "--out", str(tmp_path)]) == 1
    assert "39 to 40 rows: a law is of one budget" in capsys.readouterr().err
