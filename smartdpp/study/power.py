"""What a study can show, before it runs and after."""

from __future__ import annotations

from smartdpp.evaluation.intervals import CLAIM, LEVEL

POWER = 0.8


def smallest(noise: float, seeds: int, comparisons: int = 1) -> float:
    """The smallest true difference that a paired t test over ``seeds`` finds with a probability of POWER.

    noise: standard deviation over seeds of a pair's difference, as a pilot or an earlier study has it.
    comparisons: ways compared with one baseline; the level is shared out evenly among them (Bonferroni, what
    Holm's correction asks of the first). nan for fewer than two seeds.
    """
    from scipy.optimize import brentq
    from scipy.special import nctdtr, stdtrit

    if seeds < 2:
        return float("nan")
    df = seeds - 1
    edge = -stdtrit(df, (1 - LEVEL) / 2 / comparisons)

    def lacking(delta: float) -> float:
        return float(nctdtr(df, delta, edge)) - (1 - POWER)

    return float(noise * brentq(lacking, 0.0, 10 * edge + 10) / seeds**0.5)


def would_show(half: float) -> float:
    """The same for a study that has run: from half the width of a 95 % interval. At most so much, as normal
    quantiles stand in for t's."""
    return half * (1 + 0.8416 / 1.9600)


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
