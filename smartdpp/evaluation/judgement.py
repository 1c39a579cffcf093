"""From a judge's preferences to a win rate, with and without what the answers' length has to do with it.

The length-controlled win rate is AlpacaEval 2's (Dubois et al. 2024, arXiv 2404.04475): a logistic regression
of the preference on the model (an intercept), on tanh of the difference in length over its standard
deviation, and on the instruction's difficulty where that is known; then the mean of what it predicts at equal
length. Its authors fit all models of a leaderboard at once and have a difficulty of each instruction from
that; here a model is compared with one reference, and what is known of an instruction is how the base model
fared on it, if it was compared with the same reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from smartdpp.types import Spent, Verdict

INVERSE_PENALTY = (
    100.0  # of squared coefficients, intercept aside: weak, for instructions that length separates
)


def at_equal_length(
    preference: np.ndarray, difference: np.ndarray, difficulty: np.ndarray | None = None
) -> np.ndarray:
    """float64[n] whose mean is the length-controlled win rate: for each instruction, what it adds to it.

    preference: float64[n] in [0, 1]; difference: float64[n], the answer's length minus the reference's;
    difficulty: float64[n] or None. An instruction's part is the prediction at equal length plus its influence
    on the fit to first order, so that the spread of the parts is that of the estimate, as with any other
    mean over documents; a single part may lie outside [0, 1]. Where all preferences or all differences are
    the same the parts are the preferences.
    """
    from scipy.special import expit
    from sklearn.linear_model import LogisticRegression

    n, spread = len(preference), difference.std()
    if spread == 0 or np.ptp(preference) == 0:
        return preference.astype(np.float64)
    columns = [np.tanh(difference / spread)]
    if difficulty is not None and difficulty.std() > 0:
        columns.append((difficulty - difficulty.mean()) / difficulty.std())
    X = np.column_stack(columns)
    regression = LogisticRegression(C=INVERSE_PENALTY, solver="newton-cholesky", tol=1e-8)
    # a preference of 0.7 is 0.7 of a win and 0.3 of a loss
    fit = regression.fit(
        np.vstack([X, X]),
        np.repeat([1, 0], n),
        sample_weight=np.concatenate([preference, 1 - preference]),
    )
    theta = np.concatenate([fit.intercept_, fit.coef_[0]])
    design = np.column_stack([np.ones(n), X])
    level = design.copy()
    level[:, 1] = 0
    fitted, predicted = expit(design @ theta), expit(level @ theta)
    penalty = np.diag([0.0, *[1 / INVERSE_PENALTY] * X.shape[1]])
    hessian = (design * (fitted * (1 - fitted))[:, None]).T @ design + penalty
    slope = ((predicted * (1 - predicted))[:, None] * level).mean(0)
    influence = n * (design * (preference - fitted)[:, None]) @ np.linalg.solve(hessian, slope)
    return predicted + influence - influence.mean()


def facts(
    verdicts: Sequence[Verdict],
    lengths: np.ndarray,
    right: np.ndarray,
    spent: Spent,
    **more: Any,
) -> dict[str, Any]:
    """What else there is to know of a comparison, by name; None where it could not be had.

    lengths: int[n, 2], characters of each answer and its reference. right: float64[n, 2], whether they are
    literally the row's response; ``agreement`` is the share of instructions where that tells them apart on
    which the judge prefers the right one, a tie being half. ``first_shown`` is the mean preference for what
    is shown first: a half where the place does not matter.
    """
    read = [i for i, verdict in enumerate(verdicts) if verdict.preference is not None]
    preference = np.array([verdicts[i].preference for i in read], dtype=np.float64)
    difference = (lengths[:, 0] - lengths[:, 1])[read]
    correlated = len(read) > 1 and np.ptp(preference) > 0 and np.ptp(difference) > 0
    first = [(verdicts[i].first + 1 - verdicts[i].second) / 2 for i in read]  # type: ignore[operator]
    apart = (right[:, 0] - right[:, 1])[read]
    agree = np.where(apart > 0, preference, 1 - preference)[apart != 0]
    agree = np.sign(agree - 0.5) / 2 + 0.5
    return {
        "mean_length": float(lengths[:, 0].mean()),
        "reference_length": float(lengths[:, 1].mean()),
        "length_correlation": float(np.corrcoef(preference, difference)[0, 1]) if correlated else None,
        "disagreement": float(np.mean([verdicts[i].disagrees for i in read])),
        "first_shown": float(np.mean(first)),
        "agreement": float(agree.mean()) if len(agree) else None,
        "agreement_n": len(agree),
        "unread": len(verdicts) - len(read),
        "calls": spent.calls,
        "kept": spent.kept,
        "tokens": spent.tokens,
        **more,
    }


def said(facts: dict[str, Any]) -> list[str]:
    """The same in sentences."""
    found = [
        f"answers of {facts['mean_length']:.0f} characters on average, references of "
        f"{facts['reference_length']:.0f}"
        + (
            f"; preference and difference in length correlate by {facts['length_correlation']:+.2f}"
            if facts["length_correlation"] is not None
            else ""
        ),
        f"the two orders disagree on {facts['disagreement']:.0%}, which count half; the answer shown first "
        f"is preferred by {facts['first_shown']:.2f}",
    ]
    if facts["agreement_n"]:
        found.append(
            f"on {facts['agreement_n']} instructions where one answer alone is the right one, the judge "
            f"prefers it in {facts['agreement']:.0%}"
        )
    for name, what in (
        ("unread", "verdicts could not be read, or ask for more than the judge reads: they are left out"),
        ("equal", "answers equal their reference: half, without asking"),
        ("cut", "answers were cut at max_new_tokens"),
    ):
        if facts[name]:
            found.append(f"{facts[name]} {what}")
    kept = f" ({facts['kept']:,} replies were there already)" if facts["kept"] else ""
    found.append(
        f"the judge cost {facts['calls']:,} calls{kept}, {facts['tokens']:,} tokens, {facts['seconds']:.1f} s"
    )
    return found
