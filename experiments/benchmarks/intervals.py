"""How often what a report says about its numbers is not so: simulated claims, correlations and intervals, by
the old rules and the new.

    python experiments/benchmarks/intervals.py [--trials 600]

Nothing is trained: seeds, documents and mixtures are drawn at random, with nothing to find or with a known
effect, and judged by the functions that judge runs. Writes experiments/results/benchmarks/intervals.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from scipy.special import stdtr

from smartdpp.evaluation.compare import paired
from smartdpp.evaluation.intervals import CLAIM, holm, moderated, paired_difference
from smartdpp.study.correlations import estimate, pearson

RESULTS = Path(__file__).parents[1] / "results" / "benchmarks"
TASKS = 8
NOISE = {  # of W ways, and of the baseline: standard deviations over seeds
    "equal": lambda W: ([1.0] * W, 1.0),
    "half of the ways 3 times": lambda W: ([(1.0, 3.0)[i % 2] for i in range(W)], 1.0),
    "one way 5 times": lambda W: ([5.0, *[1.0] * (W - 1)], 1.0),
    "the baseline 3 times": lambda W: ([1.0] * W, 3.0),
}
EFFECT = 4.0  # true differences, in their standard errors


def before(by_seed: np.ndarray, v_documents: float, df_documents: int) -> float:
    """p as reports had it: Satterthwaite's degrees of freedom of the sum of two estimated variances."""
    S = len(by_seed)
    v_seeds = by_seed.var(ddof=1) / S
    variance = v_seeds + v_documents
    df = variance**2 / (v_seeds**2 / (S - 1) + v_documents**2 / df_documents)
    return float(2 * stdtr(df, -abs(by_seed.mean()) / np.sqrt(variance)))


def claims(S: int, W: int, noise: str, share: float, trials: int) -> np.ndarray:
    """float64[2, 2], before and now: the share of trials with any false claim where nothing differs; and of
    true differences claimed, a third of the ways being different. share: variance over documents, of that
    over seeds."""
    rng, found = np.random.default_rng([S, W, int(100 * share)]), np.zeros((2, 2))
    documents = 25
    keys = [(str(task), i) for task in range(TASKS) for i in range(documents)]
    sd, sd_baseline = NOISE[noise](W)
    error = np.sqrt((np.square(sd) + sd_baseline**2) / S)
    of_documents = np.sqrt(share) * error.mean() / np.sqrt(len(keys))
    effects = np.where(np.arange(W) % 3 == 0, EFFECT * np.hypot(error, np.sqrt(share) * error.mean()), 0)
    for _ in range(trials):
        seeds = rng.normal(size=(W, S)) * np.array(sd)[:, None] - sd_baseline * rng.normal(size=S)
        adds = of_documents * rng.normal(size=(W, len(keys)))
        spreads = moderated([dict(enumerate(row)) for row in seeds.tolist()])
        influences = [dict(zip(keys, row, strict=True)) for row in adds.tolist()]
        for column, shift in enumerate((np.zeros(W), effects)):
            values = seeds + (adds.sum(axis=1) + shift)[:, None]
            then = [
                before(v, float(np.square(a).sum()), len(keys) - TASKS)
                for v, a in zip(values, adds, strict=True)
            ]
            now = [
                paired_difference(v.tolist(), [i] * S, s).p
                for v, i, s in zip(values, influences, spreads, strict=True)
            ]
            for rule, p in enumerate((then, now)):
                claimed = holm(p) < 0.05
                found[rule, column] += claimed[effects > 0].mean() if column else claimed.any()
    return found / trials


def claims_table(trials: int) -> Iterator[str]:
    yield (
        "| seeds | noise over seeds | comparisons | documents / seeds | any false claim: before | now | "
        "true ones found: before | now |"
    )
    yield "|---:|---|---:|---:|---:|---:|---:|---:|"
    for S in range(3, 9):
        for noise in NOISE:
            for W in (1, 3, 8, 16):
                if W == 1 and noise != "equal":
                    continue
                for share in (0.15, 1.0):
                    then, now = claims(S, W, noise, share, trials)
                    made = ("({:.3f})", "({:.2f})") if S < CLAIM else ("{:.3f}", "{:.2f}")
                    level, power = made[0].format(now[0]), made[1].format(now[1])
                    yield (
                        f"| {S} | {noise} | {W} | {share} | {then[0]:.3f} | {level} | "
                        f"{then[1]:.2f} | {power} |"
                    )


def correlations(mixtures: int, related: float, heavy: bool, trials: int) -> np.ndarray:
    """float64[3]: how often the interval of r leaves the truth out: percentiles over runs, over mixtures, and
    as it is now."""
    rng, seeds, missed = np.random.default_rng([mixtures, int(10 * related), heavy]), 5, np.zeros(3)
    of_runs = rng.integers(mixtures * seeds, size=(300, mixtures * seeds))
    of_mixtures = rng.integers(mixtures, size=(300, mixtures))
    for _ in range(trials):
        x, y = rng.normal(size=(2, mixtures))
        y = related * x + np.sqrt(1 - related**2) * y
        if heavy:
            x, y = x / np.sqrt(rng.chisquare(5, mixtures) / 5), y / np.sqrt(rng.chisquare(5, mixtures) / 5)
        runs = np.repeat(y[:, None], seeds, axis=1) + (
            0 if related else 0.3 * rng.normal(size=(mixtures, seeds))
        )
        each, means = np.stack([np.repeat(x, seeds), runs.ravel()]), np.stack([x, runs.mean(axis=1)])
        now = estimate(pearson, means, of_mixtures)
        intervals = [
            np.nanpercentile(pearson(v[:, draws].transpose(1, 0, 2)), [2.5, 97.5])
            for v, draws in ((each, of_runs), (means, of_mixtures))
        ]
        for i, (low, high) in enumerate([*intervals, (now.low, now.high)]):
            missed[i] += not low <= related <= high
    return missed / trials


def correlations_table(trials: int) -> Iterator[str]:
    yield (
        "| mixtures, five runs each | r | distribution | runs resampled (before) | mixtures resampled | now |"
    )
    yield "|---:|---:|---|---:|---:|---:|"
    for related, heavy in ((0.0, False), (0.0, True), (0.6, False)):
        for mixtures in (6, 8, 12, 20, 40):
            missed = correlations(mixtures, related, heavy, trials)
            yield (
                f"| {mixtures} | {related} | {'t, 5 degrees' if heavy else 'normal'} | "
                + " | ".join(f"{m:.3f}" for m in missed)
                + " |"
            )


Draw = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]
RATES = np.linspace(0.05, 0.8, TASKS)[:, None]


def losses(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Heavy-tailed, and changed in proportion: half of the documents by half, the others the other way by a
    fifth; + 0.247 in the mean."""
    base = rng.lognormal(size=(TASKS, n))
    return base, base * (1 + rng.choice([0.5, -0.2], size=(TASKS, n)))


def skewed(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((TASKS, n)), rng.lognormal(size=(TASKS, n))


def scores(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    before, after = (rng.random((2, TASKS, n)) < RATES).astype(float)
    return before, np.where(rng.random((TASKS, n)) < 0.7, before, after)


def rare(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """One task of eight has answers that earn anything to speak of."""
    rates = np.where(np.arange(TASKS) == 0, 0.2, 0.0)[:, None]
    return np.zeros((TASKS, n)), 0.8 * (rng.random((TASKS, n)) < rates) + 0.01 * (
        rng.random((TASKS, n)) < 0.1
    )


KINDS: dict[str, tuple[Draw, float, str]] = {
    "losses with heavy tails, paired": (losses, 0.15 * float(np.exp(0.5)), "loss"),
    "differences with one long tail": (skewed, float(np.exp(0.5)), "loss"),
    "scores of 0 and 1, paired": (scores, 0.0, "accuracy"),
    "scores nearly all 0": (rare, 0.8 * 0.2 / TASKS + 0.001, "accuracy"),
}


def samples(values: np.ndarray) -> list[dict[str, object]]:
    return [
        {"task": str(t), "id": f"{i:04}", "nll": float(v), "tokens": 1, "bytes": 1, "accuracy": float(v)}
        for t, row in enumerate(values)
        for i, v in enumerate(row)
    ]


def documents_table(trials: int) -> Iterator[str]:
    yield "| documents a task, eight tasks | kind | percentiles (before) | now | width, now / before |"
    yield "|---:|---|---:|---:|---:|"
    for n in (10, 25, 100):
        for kind, (draw, truth, metric) in KINDS.items():
            rng, covered, width = np.random.default_rng(n), np.zeros(2), np.zeros(2)
            for _ in range(trials):
                base, tuned = draw(rng, n)
                change = tuned - base
                drawn = np.take_along_axis(change[None], rng.integers(n, size=(400, TASKS, n)), axis=2).mean(
                    axis=(1, 2)
                )
                now = paired(samples(base), samples(tuned), metric, n_boot=400)
                for i, (low, high) in enumerate(
                    [np.percentile(drawn, [2.5, 97.5]), (now["low"], now["high"])]
                ):
                    covered[i] += low <= truth <= high
                    width[i] += high - low
            then, now_covered = covered / trials
            yield f"| {n} | {kind} | {then:.3f} | {now_covered:.3f} | {width[1] / width[0]:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=600)
    trials = parser.parse_args().trials
    error = 2 * np.sqrt(0.05 * 0.95 / trials)
    text = f"""# How often what a report says is not so

Simulated by `python experiments/benchmarks/intervals.py --trials {trials}`, {trials} trials a line (a share of 0.05 is known to ± {error:.3f}), seeds fixed.
"Before" is what reports did until intervals of a difference were changed; the studies retired since were reported by it, all others by "now".

## Differences between ways

Every way against one baseline, paired by seed and by 200 documents in eight tasks, Holm's correction over the comparisons, at 0.05.
"Documents / seeds": how much the mean difference varies over documents, as a share of what it varies over seeds. True ones are four
standard errors, for a third of the ways. Before: Satterthwaite's degrees of freedom of the two variances' sum. Now: a way's variance over
seeds is moderated by those of the other ways (Smyth 2004), never downwards, with no more degrees of freedom than ways that share a
baseline can tell; the squares of the half widths over seeds and documents add. In brackets: what would be claimed from fewer than
{CLAIM} seeds, from which nothing is.

""" + "\n".join(claims_table(trials))  # noqa: E501
    text += """

Moderation that also lowers variances, as for thousands of genes, claimed up to 0.10 where one or half of the ways vary more than the
others, and is not used. With one comparison or two nothing is moderated. What is least well kept is three ways of which
one varies five times as much: 0.06 to 0.07 at five seeds.

## Correlations

How often a 95 % interval of Pearson's r leaves the truth out (0.05 is right). Every mixture was trained on under five seeds.

"""  # noqa: E501
    text += "\n".join(correlations_table(trials))
    text += """

Now: on each side the wider of Fisher's z and the percentiles of resampled mixtures, a mixture's runs being one point.

## Intervals over documents

How often a 95 % interval of a macro-average over tasks holds the truth (0.95 is right).

"""  # noqa: E501
    text += "\n".join(documents_table(trials)) + "\n"
    (RESULTS / "intervals.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
