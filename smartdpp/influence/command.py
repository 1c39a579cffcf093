"""``python -m smartdpp.influence key=value ...``: whether an embedding's nearness to a target says what
training on the near does.

Ten slices of the pool by nearness are trained on one by one: does the loss rise with the distance? And random
subsets: does the summed nearness of their rows foresee which of them trains best (the linear datamodeling
score, Park et al. 2023, arXiv 2303.14186)? All are runs of run.py with the settings given, so that they are
resumed, shared and found again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from smartdpp.errors import InputError
from smartdpp.figures.style import BLUE, GREY, panels, style
from smartdpp.influence.cells import Found, run
from smartdpp.logs import terminal
from smartdpp.logs.redact import redact
from smartdpp.metrics import METRICS
from smartdpp.report.content import Table
from smartdpp.report.markdown import table
from smartdpp.store.disk import write_text
from smartdpp.study.correlations import Estimate, estimate, spearman

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

OURS = ("strategy", "strategy.decile", "budget", "select_seed", "until", "diversity")
SEED = 0  # of the resamples


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m smartdpp.influence",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", help="key=value, as run.py takes them: embedding=less")
    parser.add_argument("--subsets", type=int, default=20, help="random subsets that are trained on")
    parser.add_argument("--share", type=float, default=0.5, help="of the pool, in each of them")
    parser.add_argument("--out", type=Path, default=Path("influence"), help="folder to write into")
    terminal.start()
    args = parser.parse_args(argv)
    try:
        if mine := [word for word in args.overrides if word.partition("=")[0].lstrip("+~") in OURS]:
            raise InputError(f"{mine[0]}: influence sets it by itself")
        if args.subsets < 4:
            raise InputError(f"--subsets {args.subsets}: a rank correlation wants 4 at least")
        text, figure, trainings = told(run(args.overrides, args.subsets, args.share))
    except InputError as error:
        print(f"error: {redact(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    args.out.mkdir(parents=True, exist_ok=True)
    write_text(args.out / "influence.md", text)
    write_text(args.out / "influence.csv", trainings.to_csv(index=False))
    figure.savefig(args.out / "influence.png", dpi=120, metadata={"Software": None})
    print(text)
    print(f"\nwritten into {args.out}: influence.md, influence.csv, influence.png")
    return 0


def told(found: Found) -> tuple[str, Figure, pd.DataFrame]:
    """The page, its figure, and a row for each training."""
    import pandas as pd

    name = METRICS[found.metric].heading
    unseen = f"{name} of unseen documents"
    slices = [
        {
            "slice": str(d + 1),
            "mean cosine": f"{near:.3f}",
            "loss of the query": f"{of_query:.3f}",
            unseen: f"{abs(score):.3f}",
        }
        for d, (near, of_query, score) in enumerate(found.slices)
    ]
    agree = {
        "slices: nearer, and better on the query": _agreement(found.slices, 1),
        "slices: nearer, and better on unseen documents": _agreement(found.slices, 2),
        "subsets: foreseen, and better on the query": _agreement(found.subsets, 1),
        "subsets: foreseen, and better on unseen documents": _agreement(found.subsets, 2),
    }
    rows = [{"": what, "ρ (95 % interval)": str(rho) or "all are equal"} for what, rho in agree.items()]
    says = "\n".join(f"- {what}: {_said(rho)}." for what, rho in agree.items())
    with_what = "".join(f"\n- {what}: {value}" for what, value in found.facts.items())
    with_what = with_what and f"\n{with_what}"
    text = f"""# Does nearness to the target say what training does?

{len(found.slices)} slices of {found.rows[0]} rows of a pool of {found.n} by mean cosine to the query, and {len(found.subsets)} random subsets of
{found.rows[1]} rows, each trained on by itself with one seed.{with_what}

{table(Table(pd.DataFrame(slices)))}

{table(Table(pd.DataFrame(rows)))}

{says}

Of subsets ρ is the linear datamodeling score, the influence of a subset being the sum of its rows' cosines. The intervals are over the
trainings, not over documents, tasks or seeds; slices differ in more than nearness (task, length), so that no slice shows a cause.
"""  # noqa: E501
    return text, _figure(found, agree, name), _trainings(found)


def _trainings(found: Found) -> pd.DataFrame:
    import pandas as pd

    columns = ["nearness", "loss_of_query", found.metric]
    kinds = {"slice": found.slices, "subset": found.subsets}
    frames = [pd.DataFrame(np.abs(cells), columns=columns) for cells in kinds.values()]
    for frame, cells in zip(frames, kinds.values(), strict=True):
        frame["nearness"] = cells[:, 0]
        frame.insert(0, "number", np.arange(1, len(cells) + 1))
    return pd.concat(frames, keys=kinds, names=["of"]).reset_index(level="of")


def _agreement(cells: np.ndarray, column: int) -> Estimate:
    """Spearman's between nearness and the loss that is saved."""
    draws = np.random.default_rng(SEED).integers(len(cells), size=(2000, len(cells)))
    return estimate(spearman, np.stack([cells[:, 0], -cells[:, column]]), draws)


def _said(rho: Estimate) -> str:
    if np.isnan(rho.value) or np.isnan(rho.low):
        return "nothing can be said, as there are too few different values"
    if rho.low > 0:
        return f"they go together here, ρ = {rho}"
    if rho.high < 0:
        return f"the opposite holds here, ρ = {rho}"
    return f"not shown either way, ρ = {rho}"


def _figure(found: Found, agree: dict[str, Estimate], name: str) -> Figure:
    with style():
        figure, axes = panels(12, 9, 2, 2)
        for ax, (what, rho), cells, column in zip(
            axes, agree.items(), (found.slices,) * 2 + (found.subsets,) * 2, (1, 2, 1, 2), strict=True
        ):
            ax.plot(cells[:, 0], np.abs(cells[:, column]), "o", color=BLUE if column == 2 else GREY)
            ax.set_xlabel("mean cosine to the query" if cells is found.slices else "summed cosines")
            ax.set_ylabel("loss of the query" if column == 1 else name)
            ax.set_title(f"{what}\nρ = {rho}", fontsize=10)
    return figure
