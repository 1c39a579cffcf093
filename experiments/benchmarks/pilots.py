"""How often `smartdpp pilot` answers rightly: its own verdict, on cells that studies have measured, and on
made ones whose truth is set.

    python experiments/benchmarks/pilots.py    reads experiments/results/arena/losses.csv; about a minute

Measured: of a setting's worlds a repetition draws an order, and hands them to the verdict as a pilot would
make them, look by look: the loss of every document after random rows and after each of the pilot's ways that
was measured there. All repetitions are drawn from the same few worlds, so they tell of the verdict, not of
other pools. Right is what all the worlds together say (95 % interval of a way's gain clear of zero: choose
it; else nothing is known, and calling it better is wrong). For a pool where nothing can be gained, each way's
mean gain is taken out of its differences, and each world's are turned round by the toss of a coin, all ways'
together: noise as measured, without a gain.

Made: differences of a world are normal, of two ways, one of which gains what is said and the other nothing,
with the standard deviation of the studies and a correlation of 0.5, as both have random's noise in them.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from smartdpp.evaluation.intervals import Difference, influence, paired_difference
from smartdpp.pilot.sequential import LOOKS, verdict

RESULTS = Path(__file__).parents[1] / "results"
WAYS = {
    "towards the target": ("targeted", "targeted_flqmi"),
    "diverse": ("dpp", "dpp_minilm"),
    "fitting answers": ("filtered_pmi",),
}  # of the pilot, by what studies call them, the first that was measured
GAINS = (0.0, 0.05, 0.1, 0.3, 0.6)
NOISE, CORRELATION = 0.24, 0.5
MATTERS = 0.05  # nats a token, the pilot's own default


@dataclass(frozen=True)
class World:
    """Of each way: its gain over random, and what each document adds to that."""

    gains: dict[str, float]
    adds: dict[str, dict[tuple[str, str], float]]


def worlds(file: Path) -> dict[str, list[World]]:
    """Each setting's, from losses.csv of a leaderboard."""
    rows: dict[str, dict[str, list[dict[str, str]]]] = {}
    with file.open(encoding="utf-8") as opened:
        for row in csv.DictReader(opened):
            rows.setdefault(row["setting"], {}).setdefault(row["seed"], []).append(row)
    return {
        setting: [_world(documents) for documents in by_seed.values()] for setting, by_seed in rows.items()
    }


def _world(rows: list[dict[str, str]]) -> World:
    keys = [(row["task"], row["id"]) for row in rows]
    tokens = np.array([float(row["tokens"]) for row in rows])

    def of(way: str) -> tuple[float, dict[tuple[str, str], float]]:
        nll = np.array([float(row[way]) for row in rows])
        tasks, at = np.unique([task for task, _ in keys], return_inverse=True)
        assert len(tasks)
        loss = float((np.bincount(at, nll) / np.bincount(at, tokens)).mean())
        return loss, influence(keys, nll, tokens)

    chance, its = of("random")
    gains, adds = {}, {}
    for way, names in WAYS.items():
        if name := next((name for name in names if rows[0].get(name)), None):
            loss, own = of(name)
            gains[way] = chance - loss
            adds[way] = {key: its[key] - own[key] for key in keys}
    return World(gains, adds)


def found(seen: Sequence[World]) -> dict[str, Difference]:
    """Each way's gain as the pilot has it."""
    return {
        way: paired_difference([w.gains[way] for w in seen], [w.adds[way] for w in seen if w.adds])
        for way in seen[0].gains
    }


def answer(draw: Callable[[int], dict[str, Difference]], most: int, matters: float) -> str:
    """The way chosen, ``random``, or ``undecided`` after ``most`` worlds. draw: gains after so many."""
    for look in (look for look in LOOKS if look <= most):
        said = verdict(draw(look), matters)
        if said.state != "undecided":
            return said.better[0] if said.state == "select" else "random"
    return "undecided"


def measured(of: list[World], repetitions: int, matters: float, nothing: bool, seed: int = 0) -> Counter[str]:
    rng, counts = np.random.default_rng(seed), Counter[str]()
    means = {way: float(np.mean([w.gains[way] for w in of])) for way in of[0].gains}
    wider = (len(of) / (len(of) - 1)) ** 0.5
    for _ in range(repetitions):
        drawn = [of[i] for i in rng.permutation(len(of))]
        if nothing:
            signs = rng.choice([-1.0, 1.0], size=len(of))
            drawn = [
                replace(w, gains={way: sign * wider * (gain - means[way]) for way, gain in w.gains.items()})
                for w, sign in zip(drawn, signs, strict=True)
            ]
        counts[answer(lambda n, drawn=drawn: found(drawn[:n]), len(of), matters)] += 1
    return counts


def made(gains: dict[str, float], cov: np.ndarray, n: int, matters: float, seed: int = 0) -> Counter[str]:
    """n pilots of worlds in which the ways' gains over random are normal. cov: float64[W, W], nats²."""
    rng, counts = np.random.default_rng(seed), Counter[str]()
    for _ in range(n):
        worlds = rng.multivariate_normal(list(gains.values()), cov, size=LOOKS[-1], method="eigh")
        counts[
            answer(
                lambda look, worlds=worlds: {
                    way: paired_difference(worlds[:look, i].tolist(), []) for i, way in enumerate(gains)
                },
                LOOKS[-1],
                matters,
            )
        ] += 1
    return counts


def share(count: int, of: int) -> str:
    """With its 95 % interval (Wilson)."""
    from scipy.stats import binomtest

    ends = binomtest(count, of).proportion_ci(method="wilson")
    return f"{count} of {of} ({100 * ends.low:.0f} to {100 * ends.high:.0f} %)"


HEAD = (
    "| setting | worlds | truth | right | of which random, as nothing was shown | not decided, wrongly "
    "| wrong way |\n|---|---:|---|---:|---:|---:|---:|"
)


def of_measured(by_setting: dict[str, list[World]], repetitions: int, matters: float) -> list[str]:
    lines = [HEAD]
    for setting, of in by_setting.items():
        few = f"too few worlds: the first look is after {LOOKS[0]}" if len(of) < LOOKS[0] else ""
        if why := "none of a pilot's ways was measured there" if not of[0].gains else few:
            lines.append(f"| {setting} | {len(of)} | {why} |||||")
            continue
        gains = found(of)
        good = {way for way, gain in gains.items() if gain.mean - gain.half > 0}
        told = ", ".join(f"{way} {gain.mean:+.2f} ± {gain.half:.2f}" for way, gain in gains.items())
        counts = measured(of, repetitions, matters, False)
        lines.append(_line(setting, str(len(of)), f"all of them: {told}", counts, good))
        counts = measured(of, repetitions, matters, True)
        lines.append(_line(f"{setting}, gains taken out", str(len(of)), "nothing to gain", counts, set()))
    return lines


def of_like(by_setting: dict[str, list[World]], n: int, matters: float) -> list[str]:
    """Worlds made like a setting's, so that there are as many as a pilot wants."""
    lines = [HEAD]
    for setting, of in by_setting.items():
        if len(of) < 3 or not of[0].gains:
            continue
        ways = list(of[0].gains)
        values = np.array([[w.gains[way] for way in ways] for w in of])
        means, cov = values.mean(0), np.atleast_2d(np.cov(values.T))
        told = ", ".join(
            f"{way} {mean:+.2f} (sd {sd:.2f})"
            for way, mean, sd in zip(ways, means, np.sqrt(np.diag(cov)), strict=True)
        )
        good = {way for way, mean in zip(ways, means, strict=True) if mean > matters}
        counts = made(dict(zip(ways, means.tolist(), strict=True)), cov, n, matters)
        lines.append(_line(setting, "made", told, counts, good))
        counts = made(dict.fromkeys(ways, 0.0), cov, n, matters)
        lines.append(_line(f"{setting}, gains taken out", "made", "nothing to gain", counts, set()))
    return lines


def _line(setting: str, worlds: str, truth: str, counts: Counter[str], good: set[str]) -> str:
    """Right is a way that gains, where there is one, else random rows: also those that are taken as nothing
    was shown."""
    n = counts.total()
    unshown, random = counts["undecided"], counts["random"] + counts["undecided"]
    right = sum(counts[way] for way in good) if good else random
    wrong = n - random - sum(counts[way] for way in good)
    left = (0, random) if good else (unshown, 0)
    return (
        f"| {setting} | {worlds} | {truth} | {share(right, n)} | {left[0]} | {left[1]} | {share(wrong, n)} |"
    )


def of_made(noises: Sequence[float], n: int, matters: Sequence[float]) -> list[str]:
    lines = [
        "| true gain | noise over worlds | a gain that matters | chose the way that gains | took random: "
        "none can gain that | nothing was shown | chose the other way |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for least in matters:
        for noise in noises:
            cov = noise**2 * np.array([[1, CORRELATION], [CORRELATION, 1]])
            for gain in GAINS:
                counts = made({"gains": gain, "gains nothing": 0.0}, cov, n, least)
                shares = (
                    f"{counts[one] / n:.3f}" for one in ("gains", "random", "undecided", "gains nothing")
                )
                lines.append(f"| {gain:g} | {noise:.2f} | {least:g} | {' | '.join(shares)} |")
    return lines


def noise_of(of: list[World]) -> float:
    """The sd over worlds of a pair's difference: the median over ways."""
    return float(np.median([np.std([w.gains[way] for w in of], ddof=1) for way in of[0].gains]))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--losses", type=Path, default=RESULTS / "arena" / "losses.csv")
    parser.add_argument("--out", type=Path, default=RESULTS / "benchmarks" / "pilots.md")
    parser.add_argument("--repetitions", type=int, default=200)
    args = parser.parse_args(argv)
    by_setting = worlds(args.losses) if args.losses.is_file() else {}
    noises = {setting: noise_of(of) for setting, of in by_setting.items() if len(of) > 2 and of[0].gains} or {
        "": NOISE
    }
    n = 5 * args.repetitions
    text = [
        "# How often a pilot is right",
        f"By `python experiments/benchmarks/pilots.py`. A verdict looks after {', '.join(map(str, LOOKS))} "
        "worlds and calls a way better at 0.05, one-sided, shared out among looks and ways, random rows as "
        f"good where no way's interval leaves room for a gain that matters ({MATTERS:g} nats a token unless "
        "told). Where neither is so in the end nothing was shown: then a pilot says to take random rows.",
        "## On measured cells",
        f"{args.repetitions} repetitions a line, each an order of the same few worlds: they are not "
        "independent, and the intervals (Wilson) are of the drawing alone. A pilot here ends where the "
        f"worlds do, though it may look until {LOOKS[-1]}: what is not decided by then counts as wrong where "
        "there is a gain. Right, and gains taken out: the script's first lines.",
        "\n".join(of_measured(by_setting, args.repetitions, MATTERS)) if by_setting else "None measured yet.",
        "## On worlds made like the measured ones",
        f"{n} pilots a line of up to {LOOKS[-1]} worlds, normal, with the gains and the spread that were "
        "measured, as if those were exact.",
        "\n".join(of_like(by_setting, n, MATTERS)) if by_setting else "None measured yet.",
        "## On made ones, gain by gain",
        f"{n} pilots a line (a share of 0.05 is known to ± {1.96 * (0.05 * 0.95 / n) ** 0.5:.3f}), up to "
        f"{LOOKS[-1]} worlds, two ways of which one gains. Noise: nats, the standard deviation over worlds "
        f"of a pair's difference, {'; '.join(name for name in noises if name) or 'pilots of the same size'}.",
        "\n".join(of_made(sorted(set(np.round(list(noises.values()), 2).tolist())), n, (MATTERS, 0.2))),
    ]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text("\n\n".join(text) + "\n", encoding="utf-8")
    print(args.out.read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
