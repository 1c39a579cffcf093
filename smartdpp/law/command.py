"""``python -m smartdpp.law runs``: a law of finished runs, and the weights that it says are best."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from smartdpp.errors import InputError
from smartdpp.figures.style import BLUE, GREY, panels, style
from smartdpp.law.best import best, held_out
from smartdpp.law.forms import FORMS, Prediction
from smartdpp.law.sweep import Sweep, read
from smartdpp.logs.terminal import streams
from smartdpp.metrics import METRICS
from smartdpp.report.content import Table
from smartdpp.report.markdown import table
from smartdpp.store.disk import write_text
from smartdpp.store.remote import folder
from smartdpp.study.correlations import Estimate, estimate, spearman
from smartdpp.study.results import run_folders

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SEED = 0  # of folds, simulated mixtures and resamples


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m smartdpp.law",
        description="Fits loss ~ mixture weights to a sweep (experiments/mixture_law.yaml makes one).",
    )
    parser.add_argument("runs", nargs="+", help="run folders, or folders of them")
    parser.add_argument("--law", choices=list(FORMS), default="loglinear")
    parser.add_argument("--kl", type=float, default=0.05, help="price of leaving the pool's own shares")
    parser.add_argument("--repeat", type=float, default=1.0, help="how often a row may be seen")
    parser.add_argument("--out", type=Path, default=Path("law"), help="folder to write into")
    streams()
    args = parser.parse_args(argv)
    try:
        if not args.kl >= 0 or not args.repeat > 0:
            raise InputError(
                f"--kl {args.kl} --repeat {args.repeat}: the first is 0 or more, the second above 0"
            )
        sweep = read(run_folders([folder(run) for run in args.runs]))
        text, figure = told(sweep, args.law, args.kl, args.repeat)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except ImportError as error:
        print(f"error: --law {args.law}: {error}; pip install 'smartdpp[laws]'", file=sys.stderr)
        return 1
    args.out.mkdir(parents=True, exist_ok=True)
    write_text(args.out / "law.md", text)
    figure.savefig(args.out / "law.png", dpi=120, metadata={"Software": None})
    print(text)
    print(f"\nwritten into {args.out}: law.md, law.png")
    return 0


def told(sweep: Sweep, law: str, kl: float, repeat: float) -> tuple[str, Figure]:
    """The page and its figure. InputError where the pool cannot fill a mixture."""
    form, rng = FORMS[law](), np.random.default_rng(SEED)
    prior = sweep.sizes / sweep.sizes.sum()
    most = np.minimum(1.0, repeat * sweep.sizes / sweep.budget)
    if most.sum() < 1:
        raise InputError(
            f"{sweep.sizes.sum()} rows seen {repeat:g} times are fewer than the budget of {sweep.budget}"
        )
    predicted = held_out(form, sweep.W, sweep.L, rng)
    fitted = form.fit(sweep.W, sweep.L)
    weights = best(fitted, prior, most, kl, rng)
    measured, foreseen = sweep.L.mean(1), predicted.mean(1)
    draws = rng.integers(len(measured), size=(2000, len(measured)))
    rho = estimate(spearman, np.stack([foreseen, measured]), draws)
    return _page(sweep, law, kl, repeat, weights, prior, fitted, rho, foreseen), _figure(
        measured, foreseen, rho, METRICS[sweep.metric].heading
    )


def _page(
    sweep: Sweep,
    law: str,
    kl: float,
    repeat: float,
    weights: np.ndarray,
    prior: np.ndarray,
    predict: Prediction,
    rho: Estimate,
    foreseen: np.ndarray,
) -> str:
    import pandas as pd

    order = np.argsort(-weights, kind="stable")
    shares = pd.DataFrame(
        {
            "task": [sweep.tasks[j] for j in order],
            "rows": [str(sweep.sizes[j]) for j in order],
            "share of the pool": [f"{prior[j]:.3f}" for j in order],
            "best share": [f"{weights[j]:.3f}" for j in order],
        }
    )
    equal = np.full(len(prior), 1 / len(prior))
    measured = sweep.L.mean(1)
    expected = pd.DataFrame(
        [
            {"mixture": name, METRICS[sweep.metric].heading: f"{abs(float(predict(w[None]).mean())):.3f}"}
            for name, w in (("best by the law", weights), ("the pool's own", prior), ("equal", equal))
        ]
        + [{"mixture": "best that was measured", METRICS[sweep.metric].heading: f"{abs(measured.min()):.3f}"}]
        + [{"mixture": "mean of the sweep", METRICS[sweep.metric].heading: f"{abs(measured.mean()):.3f}"}]
    )
    error = float(np.sqrt(np.mean(np.square(foreseen - measured))))
    named = ", ".join(f"{sweep.tasks[j]}: {weights[j]:.4f}" for j in order if weights[j] >= 5e-5)
    return f"""# A mixture law: {law}, from {len(sweep.W)} mixtures of {len(sweep.tasks)} tasks

Predicted from the other mixtures, in turns, the means over {len(sweep.targets)} held-out tasks have ρ = {rho}
with those measured, and an error of {error:.3f} (their standard deviation is {measured.std():.3f}).

{table(Table(expected))}

The first three are the law's own predictions: run them to know. A row is seen {repeat:g} times at most in
{sweep.budget}; λ = {kl:g} of KL to the pool's shares.

{table(Table(shares))}

    python run.py strategy=weights 'strategy.weights={{{named}}}' budget={sweep.budget} ...

with the sweep's other settings in place of the dots; of a study `-cd experiments -cn NAME`, and `seed=0,1,2,3,4` for the seeds.
"""  # noqa: E501


def _figure(measured: np.ndarray, foreseen: np.ndarray, rho: Estimate, name: str) -> Figure:
    with style():
        figure, (ax,) = panels(8, 7)
        ax.axline((float(measured.mean()),) * 2, slope=1, color=GREY, linewidth=1.5, linestyle="--")
        ax.plot(np.abs(foreseen), np.abs(measured), "o", color=BLUE, alpha=0.7, markeredgewidth=0)
        ax.set_xlabel(f"predicted from the other mixtures, {name}")
        ax.set_ylabel(f"measured {name}")
        ax.set_title(f"{len(measured)} mixtures, ρ = {rho}")
    return figure
