"""Does diversity predict performance? Correlations over mixtures, with intervals, for every measure that the
runs logged.

Only runs under the same budget, corpus, model and evaluation are compared: the measures grow with the number
of examples. Runs that trained on one mixture are one point, the mean of their outcomes: a deterministic
strategy chooses the same under every seed, and its seeds tell of the training alone. For each measure:
Pearson's r, Spearman's ρ and Kendall's τ_b with 95 % intervals over mixtures; the partial correlation given
other logged columns, mean response length to begin with, which explains much of such correlations; and the
range of r with any one mixture left out.

An interval goes as far as the wider of two on each side: Fisher's z, which keeps its level where nothing is
related, whatever the distributions; and percentiles of resampled mixtures, without which it would be too
narrow where unusual mixtures make the correlation. Both were simulated:
experiments/results/benchmarks/intervals.md.

Mixtures of one strategy resemble each other, so one unusual strategy can make a correlation, and many of its
mixtures make it look certain. Two more numbers tell: the range of r with any one strategy left out, and r
within strategies, each mixture taken as its distance from the mean of its strategy's. And mixtures of one
seed may share a pool and documents of their own, whose difficulty says nothing of diversity: r within seeds
is that among the mixtures of one seed, averaged over seeds, with an interval over them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from smartdpp.evaluation.intervals import CLAIM, t_interval
from smartdpp.metrics import DIVERSITY, TOWARDS
from smartdpp.study.settings import of_strategy

if TYPE_CHECKING:
    import pandas as pd

    from smartdpp.study.results import Results

LENGTH = "mean_response_tokens"
# column of a run's row: how it is called, and whether more of it is more diverse (None: no diversity measure)
MEASURES = {
    **{
        name if name == "ldd" else f"diversity_{name}": (of.long or of.label, not of.lower)
        for name, of in DIVERSITY.items()
    },
    **{name: (of.long, None) for name, of in TOWARDS.items()},
    LENGTH: ("mean response length (for comparison)", None),
}
FEWEST = 6  # mixtures below which nothing is said
FEWEST_OF_A_SEED = 4  # below which Fisher's z has no error
FIRM = 20  # mixtures below which one or two decide
UNDEFINED = 0.05  # share of resamples without a correlation from which on there is no interval
RESAMPLES = 2000
BLOCK = 2**22  # pairs of pairs at a time in Kendall's τ

Statistic = Callable[[np.ndarray], np.ndarray]
"""float64[B, v, n], B samples of v variables, to float64[B]; nan where a variable is constant."""


@dataclass(frozen=True)
class Estimate:
    """A correlation and its 95 % interval; nan where there is none."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if np.isnan(self.value):
            return ""
        return f"{self.value:+.2f}" + (
            "" if np.isnan(self.low) else f" ({self.low:+.2f} to {self.high:+.2f})"
        )


def pearson(samples: np.ndarray) -> np.ndarray:
    """r between the first two variables."""
    return _product_moment(samples[:, 0], samples[:, 1])


def spearman(samples: np.ndarray) -> np.ndarray:
    """ρ between the first two variables: r of their ranks, ties averaged."""
    from scipy.stats import rankdata

    return pearson(rankdata(samples[:, :2], axis=2))


def kendall(samples: np.ndarray) -> np.ndarray:
    """τ_b between the first two variables."""
    n = samples.shape[2]
    found = np.empty(len(samples))
    step = max(1, BLOCK // n**2)
    for a in range(0, len(samples), step):
        x, y = (
            np.sign(samples[a : a + step, v, :, None] - samples[a : a + step, v, None, :]) for v in (0, 1)
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            found[a : a + step] = (x * y).sum((1, 2)) / np.sqrt((x * x).sum((1, 2)) * (y * y).sum((1, 2)))
    return found


def partial(samples: np.ndarray) -> np.ndarray:
    """r between the first two variables given all further ones: -P_xy / √(P_xx P_yy), P the inverse of their
    correlation matrix."""
    centred = samples - samples.mean(axis=2, keepdims=True)
    sd = np.sqrt(np.square(centred).sum(axis=2, keepdims=True))
    defined = (sd > 1e-12 * np.maximum(1, np.abs(samples).max(axis=2, keepdims=True))).all(axis=(1, 2))
    found = np.full(len(samples), np.nan)
    unit = centred[defined] / sd[defined]
    correlation = unit @ unit.transpose(0, 2, 1)
    # what the given ones explain is taken from x and y; a pseudo-inverse, as they may explain each other
    given = correlation[:, 2:, 2:]
    explained = correlation[:, :2, 2:] @ np.linalg.pinv(given, hermitian=True) @ correlation[:, 2:, :2]
    left = correlation[:, :2, :2] - explained
    scale = np.sqrt(np.maximum(left[:, 0, 0] * left[:, 1, 1], 0))
    found[defined] = np.where(scale > 1e-9, np.clip(left[:, 0, 1] / np.maximum(scale, 1e-300), -1, 1), np.nan)
    return found


def _product_moment(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = (v - v.mean(axis=1, keepdims=True) for v in (x, y))
    scale = np.sqrt(np.square(x).sum(1) * np.square(y).sum(1))
    return np.where(scale > 1e-300, (x * y).sum(1) / np.maximum(scale, 1e-300), np.nan)


def estimate(statistic: Statistic, variables: np.ndarray, draws: np.ndarray, lost: int = 0) -> Estimate:
    """The statistic of variables float64[v, n] with its interval: the wider, on each side, of Fisher's z and
    of percentiles over ``draws`` int[B, n], resamples of the n mixtures.

    lost: degrees of freedom that went into the values before (means of strategies, variables that are given).
    """
    value = float(statistic(variables[None])[0])
    resampled = statistic(variables[:, draws].transpose(1, 0, 2))
    defined = resampled[~np.isnan(resampled)]
    n = variables.shape[1] - lost
    if np.isnan(value) or len(defined) < (1 - UNDEFINED) * len(draws) or n < 4:
        return Estimate(value, np.nan, np.nan)
    low, high = np.percentile(defined, [2.5, 97.5])
    error = 1.96 * _error_of_z(statistic, value, n)
    z = _z(value)
    return Estimate(value, float(min(low, np.tanh(z - error))), float(max(high, np.tanh(z + error))))


def _z(r: float) -> float:
    """Fisher's, finite also for ±1."""
    return float(np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12)))


def _error_of_z(statistic: Statistic, value: float, n: int) -> float:
    """The standard error of artanh: Fisher's; for ρ with Bonett and Wright's (2000) factor; for τ Fieller,
    Hartley and Pearson's (1957)."""
    if statistic is kendall and n > 4:
        return float(np.sqrt(0.437 / (n - 4)))
    return float(np.sqrt((1 + value**2 / 2 if statistic is spearman else 1) / (n - 3)))


def leave_one_out(x: np.ndarray, y: np.ndarray, group: np.ndarray | None = None) -> tuple[float, float]:
    """The least and the largest r of x and y, float64[n], without any one of the groups int[n]; by default,
    without any one value."""
    group = np.arange(len(x)) if group is None else group
    r = np.array(
        [
            pearson(np.stack([x[others], y[others]])[None])[0]
            for g in np.unique(group)
            if (others := group != g).any()
        ]
    )
    return (
        (float(np.nanmin(r)), float(np.nanmax(r)))
        if len(r) > 1 and not np.isnan(r).all()
        else (np.nan, np.nan)
    )


def within_seeds(table: pd.DataFrame, measure: str, outcome: str) -> tuple[Estimate, int]:
    """r among the mixtures of one seed: tanh of the mean over seeds of artanh r, with a 95 % t interval over
    seeds, and how many these are. A seed with fewer than FEWEST_OF_A_SEED mixtures, or without a correlation,
    has no part."""
    found = []
    for _, runs in table.groupby("seed"):
        pairs = by_mixture(runs, [measure, outcome])[[measure, outcome]].to_numpy(float).T
        if pairs.shape[1] >= FEWEST_OF_A_SEED and not np.isnan(r := pearson(pairs[None])[0]):
            found.append(_z(r))
    if len(found) < 2:
        return Estimate(*[np.nan] * 3), len(found)
    mean, half = t_interval(found)
    return Estimate(*map(float, np.tanh([mean, mean - half, mean + half]))), len(found)


def within_groups(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Each value of float64[v, n] as its distance from its group's mean."""
    belongs = group == np.unique(group)[:, None]
    means = values @ belongs.T / belongs.sum(axis=1)
    return values - means @ belongs


def deciding(line: dict[str, Any]) -> Estimate:
    """The r of a line of `rank_measures` that its reading goes by: within seeds, where CLAIM of them have
    it."""
    return line["within_seeds"] if line["seeds"] >= CLAIM else line["pearson"]


def reading(measure: str, found: Estimate, lower_is_better: bool) -> str:
    """What an interval for r says about the more diverse runs; nothing for what is no diversity measure."""
    more = MEASURES[measure][1]
    if more is None:
        return ""
    if np.isnan(found.low) or found.low <= 0 <= found.high:
        return "nothing shown"
    return "better" if (found.value > 0) == (more != lower_is_better) else "worse"


def rank_measures(
    table: pd.DataFrame,
    outcome: str,
    measures: Sequence[str] = tuple(MEASURES),
    given: Sequence[Sequence[str]] = ((LENGTH,),),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """One line a measure, the best predictor of ``outcome`` first (largest |r|): measure, n (mixtures), runs,
    pearson, spearman, kendall (Estimates), one Estimate for each of ``given`` under ``given <columns>``,
    leave_one_out (low, high), within_seeds (an Estimate of r) and how many seeds these are; and by strategy,
    where there are at least three and some has several mixtures, within (an Estimate of r) and
    leave_one_strategy_out (low, high).

    table: one line a run; its column ``label`` names the strategy, ``mixture_content`` the mixture. A
    measure's runs are those that have it; a measure with fewer than FEWEST mixtures, or the same for all of
    them, is left out, and a given column that is missing or the same for all (or is the measure) has an empty
    Estimate.
    """
    import pandas as pd

    lines: list[dict[str, Any]] = []
    for measure in measures:
        if measure not in table:
            continue
        known = table[table[measure].notna() & table[outcome].notna()]
        runs = by_mixture(known, [measure, outcome, *(c for columns in given for c in columns if c in known)])
        n = len(runs)
        # asked before means are taken, which round
        if n < FEWEST or known[measure].nunique() == 1 or known[outcome].nunique() == 1:
            continue
        # the same for all measures of the same mixtures
        draws = np.random.default_rng([seed, n]).integers(n, size=(resamples, n))
        pair = runs[[measure, outcome]].to_numpy(float).T
        line: dict[str, Any] = {"measure": measure, "n": n, "runs": len(known)}
        line |= {s.__name__: estimate(s, pair, draws) for s in (pearson, spearman, kendall)}
        for columns in given:
            usable = n > len(columns) + 3 and all(
                c in known and c != measure and known[c].notna().all() and known[c].nunique() > 1
                for c in columns
            )
            given_too = runs[[measure, outcome, *columns]].to_numpy(float).T if usable else pair
            line[f"given {', '.join(columns)}"] = (
                estimate(partial, given_too, draws, len(columns)) if usable else Estimate(*[np.nan] * 3)
            )
        line["within_seeds"], line["seeds"] = within_seeds(known, measure, outcome)
        strategy = pd.factorize(runs["label"])[0]
        strategies = int(strategy.max()) + 1
        several = 3 <= strategies < n
        line["within"] = (
            estimate(pearson, within_groups(pair, strategy), draws, strategies - 1)
            if several
            else Estimate(*[np.nan] * 3)
        )
        line["leave_one_strategy_out"] = (
            leave_one_out(pair[0], pair[1], strategy) if several else (np.nan, np.nan)
        )
        lines.append(line | {"leave_one_out": leave_one_out(pair[0], pair[1])})
    return pd.DataFrame(sorted(lines, key=lambda line: -abs(line["pearson"].value)))


def by_mixture(runs: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Each mixture once, with the means of the columns over the runs that trained on it, and the label of its
    first."""
    means = {name: (name, "mean") for name in dict.fromkeys(columns)}
    return runs.groupby("mixture_content", sort=False).agg(label=("label", "first"), **means).reset_index()


@dataclass(frozen=True)
class Group:
    """Runs that may be compared: one budget, and one of everything else that is no part of choosing."""

    where: dict[str, Any]
    runs: pd.DataFrame
    ranking: pd.DataFrame  # of rank_measures; empty where nothing can be said
    warning: str  # "" if there is nothing to warn of


def within_budgets(
    results: Results, outcome: str, given: Sequence[Sequence[str]] = ((LENGTH,),)
) -> Iterator[Group]:
    """The groups of finished runs with a diversity measured, each with its ranking of the measures."""
    table = results.table
    if "ldd" not in table:
        return
    context = ["budget", *(name for name in results.settings if not of_strategy(name))]
    for values, runs in table[table["ldd"].notna()].groupby(context, dropna=False, sort=False):
        n = runs["mixture_content"].nunique()
        ranking = rank_measures(runs, outcome, given=given)
        warning = ""
        said = f"n = {n} mixture{'s' if n > 1 else ''}" + (f" ({len(runs)} runs)" if len(runs) > n else "")
        if n < FEWEST:
            warning = f"{said}, too few to say anything."
        elif ranking.empty or runs["ldd"].nunique() == 1 or runs[outcome].nunique() == 1:
            warning = f"all {n} mixtures have the same value, so there is no correlation."
        elif n < FIRM:
            warning = f"{said} are few: below {FIRM} one or two of them decide, so read these as hints."
        yield Group(dict(zip(context, values, strict=True)), runs, ranking, warning)
