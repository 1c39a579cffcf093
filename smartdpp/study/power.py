"""What a study can show, before it runs and after."""

from __future__ import annotations

from smartdpp.evaluation.intervals import CLAIM, LEVEL

POWER = 0.8
MANY = 1e4  # degrees of freedom: more differ by nothing


def smallest(noise: float, seeds: int, comparisons: float = 1) -> float:
    """The smallest true difference that a paired t test over ``seeds`` finds with a probability of POWER.

    noise: standard deviation over seeds of a pair's difference, as a pilot or an earlier study has it.
    comparisons: ways compared with one baseline; the level is shared out evenly among them (Bonferroni, what
    Holm's correction asks of the first). nan for fewer than two seeds.
    """
    return noise * _found(seeds - 1, comparisons) / seeds**0.5 if seeds > 1 else float("nan")


def would_show(half: float, seeds: int, comparisons: float = 1) -> float:
    """The same for a study that has run: from half the width of an uncorrected 95 % interval over its seeds
    and documents together. At most so much: as if all its error were of the part with fewer degrees of
    freedom, or of that with many, whichever asks for more."""
    if seeds < 2:
        return float("nan")
    return half * max(_found(df, comparisons) / _edge(df, 1) for df in (seeds - 1, MANY))


def _edge(df: float, comparisons: float) -> float:
    """What |t| must exceed."""
    from scipy.special import stdtrit

    return -float(stdtrit(df, (1 - LEVEL) / 2 / comparisons))


def _found(df: float, comparisons: float) -> float:
    """The true difference, in standard errors, whose t exceeds the edge with a probability of POWER."""
    from scipy.optimize import brentq
    from scipy.special import nctdtr

    edge = _edge(df, comparisons)
    # no more than 1.43 edges for any df; far above, scipy's distribution is NaN
    return float(brentq(lambda delta: nctdtr(df, delta, edge) - (1 - POWER), 0.0, 1.5 * edge + 1))


def stated(noise: float | None, seeds: int, ways: int) -> str | None:
    """What a plan says of a study of so many ways of choosing, the baseline among them; None where no noise
    is known (``report.noise``)."""
    if noise is None:
        return None
    if seeds < CLAIM:
        return f"{'1 seed shows' if seeds == 1 else f'{seeds} seeds show'} nothing: a claim needs {CLAIM}."
    others = max(ways - 1, 1)
    return (
        f"{seeds} seeds show a difference of {smallest(noise, seeds, others):.2g} in 8 of 10 such studies, "
        f"where pairs differ by {noise:g} from seed to seed and {others} comparisons are corrected for "
        f"({smallest(noise, seeds):.2g} without)."
    )
