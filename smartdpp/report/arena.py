"""Several studies of pools whose truth is known, side by side: which way of choosing gains how much of what
could be gained, in which setting.

    python -m smartdpp.report root=R experiments/needle.yaml experiments/noise.yaml corpus.mismatched=0.7 \\
        experiments/skew.yaml

Overrides in front of the first study are all studies'; those behind one are its own. A setting is a study,
or a part of it that has a pool, model or budget of its own. Only whole worlds count: seeds for which every
way of the setting has finished. Ways of two studies are one row where they choose by the same options.

It writes leaderboard.md, leaderboard.png, leaderboard.csv (a row per way and setting, as numbers),
settings.csv (what is said of each setting) and losses.csv (a row per document and a column per way, from
which the rest can be computed again). ``--earlier FOLDER`` takes the settings that have no world here from
these files, made elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smartdpp.config.schema import HOW
from smartdpp.errors import InputError
from smartdpp.evaluation.intervals import CLAIM, Difference, paired_difference
from smartdpp.figures.shares import leaderboard
from smartdpp.figures.style import style
from smartdpp.metrics import METRICS
from smartdpp.report import cells, elsewhere, markdown, oracle
from smartdpp.report.against import Documents, compared
from smartdpp.report.compose import checked, facts
from smartdpp.report.content import Picture, Report, Section, Table, Text
from smartdpp.report.numbers import number, p_value, signed
from smartdpp.run.folder import artifacts
from smartdpp.store.disk import write_text
from smartdpp.store.remote import file
from smartdpp.study.cells import Cell, Wanted
from smartdpp.study.gain import Share
from smartdpp.study.power import smallest, would_show
from smartdpp.study.results import Results, collect, main_metric
from smartdpp.study.settings import labels, of_strategy, plain, short

if TYPE_CHECKING:
    import pandas as pd

ORACLE, BASE = oracle.ORACLE, "untrained"


@dataclass(frozen=True)
class Study:
    name: str
    wanted: Wanted
    cells: list[Cell]


@dataclass(frozen=True)
class Line:
    """One way of choosing in one setting."""

    way: str
    gain: Difference  # over the baseline, positive is better
    sd: float  # of one pair's difference, over worlds; nan for one world
    p_holm: float  # corrected for the setting's ways; nan where nothing is claimed
    share: Share | None  # of the oracle's gain; None for the oracle itself


@dataclass(frozen=True)
class Setting:
    name: str
    baseline: str
    metric: str
    lines: list[Line]
    worlds: list[int]  # seeds that every way finished
    partial: list[int]  # seeds that only some did
    cleared: Cleared | None
    runs: dict[str, dict[int, str]]  # way to seed to run, the baseline's and the oracle's too

    @property
    def shared(self) -> bool:
        """Whether its ways have a share of the oracle's gain."""
        return any(line.share and not np.isnan(line.share.value) for line in self.lines)

    @property
    def noise(self) -> float:
        """nats: the median over the ways of the sd over worlds of a pair's difference."""
        return float(np.median([line.sd for line in self.lines]))


@dataclass(frozen=True)
class Cleared:
    """Whether choosing by the truth teaches ability: each positive where it does."""

    floor: Difference  # the prompt-blind loss minus the oracle's
    untrained: float  # the prompt-blind loss minus the untrained model's
    own: Difference  # the oracle's own over other minus the untrained model's

    def __bool__(self) -> bool:
        return any(one.mean - one.half > 0 for one in (self.floor, self.own))


def write(studies: Sequence[Study], out: Path, earlier: Path | None = None) -> tuple[str, list[Path]]:
    """The text for the terminal, and the files written. ``earlier``: the folder of such a report."""
    import pandas as pd

    found = {one.name: _whole(one) for one in studies}
    if not (folders := [folder for one in found.values() for folder in one.results.folders]):
        raise InputError(
            f"{', '.join(found)}: no seed has been finished by all its ways yet; there is nothing to compare"
        )
    every = collect(list(dict.fromkeys(folders)))
    names = _names(every)
    settings = [
        setting
        for one in studies
        if len(found[one.name].results.table)
        for setting in _settings(one, found[one.name], names)
    ]
    rows, said = _frame(settings), _settings_frame(settings)
    losses = _losses(settings, dict(zip(every.table["run"], every.folders, strict=True)))
    if earlier:
        there = elsewhere.read(earlier, [one.name for one in settings])
        rows, said = pd.concat([there.rows, rows]), pd.concat([there.settings, said])
        losses = pd.concat([there.losses, losses])
    ways = rows.groupby("setting")["way"].transform("size")
    rows = _ordered(rows.assign(would_show=list(map(would_show, rows["half"], rows["worlds"], ways))))
    pictures = []
    over = dict(zip(said["setting"], said["baseline"], strict=True))
    if drawn := [name for name in over if rows[rows["setting"] == name]["share"].notna().any()]:
        with style():
            beneath = {name: _beneath(rows, name, over[name]) for name in drawn}
            pictures = [Picture(leaderboard(rows[rows["setting"].isin(drawn)], beneath))]
    states = cells.counts([cell for one in studies for cell in one.cells])
    each = [*said["said"], *_waiting(studies, found)]
    if earlier and len(there.settings):
        each.append(
            f"Made elsewhere, and taken as they are: {', '.join(there.settings['setting'])}; the facts above "
            "are those of the others."
        )
    sections = (
        Section(
            "Share of the oracle's gain",
            (*pictures, Table(_wide(rows, said["setting"])), Text(_note(said["baseline"]))),
        ),
        Section("Each setting", tuple(map(Text, each))),
        Section("Each way in each setting", (Table(_long(rows, said["setting"])),)),
    )
    report = Report(
        "Ways of choosing where the truth is known",
        "What share of the gain of choosing by the truth does each way reach, and in which setting?",
        facts(every),
        (),
        states,
        sections,
    )
    texts = {"leaderboard.md": markdown.render(report)}
    texts |= {
        name: frame.to_csv(index=False)
        for name, frame in (
            (elsewhere.ROWS, rows),
            (elsewhere.SETTINGS, said),
            (elsewhere.LOSSES, losses),
        )
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_text(out / name, text)
    return markdown.brief(report), [
        *(out / name for name in texts),
        *(picture.drawing.png(out) for picture in pictures),
    ]


@dataclass(frozen=True)
class Whole:
    """What a study has of whole worlds."""

    results: Results
    partial: dict[str, list[int]]  # by panel: seeds that only some ways finished
    absent: list[str]  # panels without a whole world, and why


def _whole(study: Study) -> Whole:
    """A world is whole where all the cells of its panel and seed are done, those that were never started
    among them."""
    panels: dict[str, dict[int, list[Cell]]] = {}
    for cell in map(checked, study.cells):
        words = dict(word.split("=", 1) for word in cell.overrides)
        seeds = panels.setdefault(" ".join(f"{k}={v}" for k, v in words.items() if _outside(k)), {})
        seeds.setdefault(int(words.get("seed", 0)), []).append(cell)
    paths = {
        panel: [cell.path for of in seeds.values() if _finished(of) for cell in of if cell.path]
        for panel, seeds in panels.items()
    }
    results = collect(list(dict.fromkeys(path for own in paths.values() for path in own))).trainings()
    named = (
        {run: name for name, group in _panels(results, results.table) for run in group["run"]}
        if len(results.table)
        else {}
    )
    partial, absent = {}, []
    for panel, seeds in panels.items():
        if name := [named[path.name] for path in paths[panel] if path.name in named]:
            partial[name[0]] = sorted(seed for seed, of in seeds.items() if _begun(of) and not _finished(of))
        elif any(map(_begun, seeds.values())):
            absent.append(f"{panel or 'it'} has no world that all ways finished{_lacking(seeds.values())}")
    return Whole(results, partial, absent)


def _chooses(key: str) -> bool:
    """Whether an override says which way it is."""
    return key == "way" or of_strategy(key)


def _outside(key: str) -> bool:
    """Whether it says under what ways are compared: neither which one, nor in which world, nor how it is
    run."""
    return key != "seed" and key not in HOW and not _chooses(key)


def _finished(world: Sequence[Cell]) -> bool:
    return all(cell.state == "done" for cell in world)


def _begun(world: Sequence[Cell]) -> bool:
    return any(cell.state == "done" for cell in world)


def _lacking(worlds: Iterable[Sequence[Cell]]) -> str:
    """Which ways have finished in no world."""
    done: dict[str, bool] = {}
    for cell in (cell for world in worlds for cell in world):
        way = " ".join(word for word in cell.overrides if _chooses(word.split("=", 1)[0]))
        done[way] = done.get(way, False) or cell.state == "done"
    nowhere = [way for way, finished in done.items() if not finished]
    return f" ({', '.join(nowhere)} in none: leave what is not to be compared out)" if nowhere else ""


def _waiting(studies: Sequence[Study], found: Mapping[str, Whole]) -> Iterator[str]:
    """What is said of studies of which not all is done, and why of what failed."""
    for one in studies:
        states, absent = cells.counts(one.cells), found[one.name].absent
        if states.get("done") != len(one.cells):
            why = dict.fromkeys(cell.detail for cell in one.cells if cell.state == "failed")
            said = f"not in the table: {'; '.join(absent)}; " if absent else ""
            if found[one.name].results.table.empty and not absent:
                said = "no world yet that all ways finished, so it is not in the table; "
            yield (
                f"{one.name}: {said}of its cells {', '.join(f'{n} {state}' for state, n in states.items())}."
                + (f" Failed: {'; '.join(why)}." if why else "")
            )


def _panels(results: Results, table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Parts that have a pool, a model, a budget of their own; by the settings that say which."""
    by = _by(results)
    if not by:
        yield "", table
        return
    for _, group in table.groupby(table[by].map(plain).agg(", ".join, axis=1), sort=False):
        yield _panel(by, tuple(group[by].iloc[0])), group


def _by(results: Results) -> list[str]:
    return [*(["budget"] if results.table["budget"].nunique() > 1 else []), *results.context]


def _panel(by: Sequence[str], values: Sequence[Any]) -> str:
    return ", ".join(f"{short(name)} {plain(value)}" for name, value in zip(by, values, strict=True))


def _names(every: Results) -> dict[str, str]:
    """Run to its way's name: the option of experiments/way that made it in any study, else the strategy."""
    own = [name for name in every.settings if of_strategy(name)]
    table = every.table.assign(by=labels(every.table, own))
    names: dict[str, str] = {}
    for by, group in table.groupby("by", sort=False):
        named = group["way"].dropna() if "way" in group else group["strategy"].iloc[:0]
        name = str(named.iloc[0] if len(named) else group["strategy"].iloc[0])
        names[by] = name if name not in names.values() else by
    return {run: names[by] for run, by in zip(table["run"], table["by"], strict=True)}


def _settings(study: Study, whole: Whole, names: Mapping[str, str]) -> Iterator[Setting]:
    results = whole.results
    baseline, metric = study.wanted.baselines[0], main_metric(results.table)
    documents = Documents.of_all(results)
    shares = {
        tuple(map(plain, values)): share for values, share in oracle.shares(results, baseline, documents)
    }
    against = compared(results, baseline, documents)
    for panel, group in _panels(results, results.table):
        runs: dict[str, dict[int, str]] = {}
        for run, seed in zip(group["run"], group["seed"], strict=True):
            runs.setdefault(names[run], {})[int(seed)] = run
        lines = [
            Line(
                names[one.runs[0]],
                _gain(one.difference, metric),
                _sd(group, metric, one.runs, baseline),
                one.p_holm,
                shares.get(tuple(map(plain, one.values))),
            )
            for one in against
            if one.runs[0] in set(group["run"])
        ]
        yield Setting(
            ", ".join(part for part in (study.name, panel) if part),
            baseline,
            metric,
            lines,
            sorted({int(seed) for seed in group["seed"]}),
            whole.partial.get(panel, []),
            _cleared(group[group["strategy"] == ORACLE]),
            runs,
        )


def _sd(group: pd.DataFrame, metric: str, runs: Sequence[str], baseline: str) -> float:
    own, its = (
        group[of].set_index("seed")[metric] for of in (group["run"].isin(runs), group["strategy"] == baseline)
    )
    return float((own - its).std())


def _gain(difference: Difference, metric: str) -> Difference:
    return replace(difference, mean=-difference.mean) if METRICS[metric].lower else difference


def _cleared(runs: pd.DataFrame) -> Cleared | None:
    """None without runs of the oracle that were scored by evaluation=ability. Over worlds alone: each has
    documents of its own."""
    needed = ("loss", "loss_base", "blind_loss", "own_over_other", "own_over_other_base")
    if runs.empty or any(name not in runs or runs[name].isna().any() for name in needed):
        return None
    return Cleared(
        paired_difference((runs["blind_loss"] - runs["loss"]).tolist(), []),
        float((runs["blind_loss"] - runs["loss_base"]).mean()),
        paired_difference((runs["own_over_other"] - runs["own_over_other_base"]).tolist(), []),
    )


def _ordered(rows: pd.DataFrame) -> pd.DataFrame:
    """By way, the best mean share first, those without one by their gain; the oracle above all."""

    def rank(way: str) -> tuple[bool, bool, float]:
        own = rows[rows["way"] == way]
        shares = own["share"].dropna()
        return way != ORACLE, shares.empty, -float((own["gain"] if shares.empty else shares).mean())

    place = {way: i for i, way in enumerate(sorted(rows["way"].unique(), key=rank))}
    return rows.sort_values("way", key=lambda ways: ways.map(place), kind="stable")


def _frame(settings: Sequence[Setting]) -> pd.DataFrame:
    """A row per way and setting, as numbers: settings as given."""
    import pandas as pd

    return pd.DataFrame(
        {
            "way": line.way,
            "setting": setting.name,
            "worlds": line.gain.seeds,
            "documents": line.gain.documents,
            "gain": line.gain.mean,
            "half": line.gain.half,
            "sd_over_worlds": line.sd,
            "p": line.gain.p,
            "p_holm": line.p_holm,
            "share": line.share.value if line.share else np.nan,
            "share_low": line.share.low if line.share else np.nan,
            "share_high": line.share.high if line.share else np.nan,
        }
        for setting in settings
        for line in setting.lines
    )


def _settings_frame(settings: Sequence[Setting]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        {"setting": one.name, "baseline": one.baseline, "said": _said(one)} for one in settings
    )


def _wide(rows: pd.DataFrame, settings: Iterable[str]) -> pd.DataFrame:
    """Ways by settings."""
    import pandas as pd

    cell = {(row["way"], row["setting"]): _cell(row) for row in rows.to_dict("records")}
    return pd.DataFrame(
        {"way": way} | {name: cell.get((way, name), "") for name in settings} for way in rows["way"].unique()
    )


def _cell(row: Mapping[str, Any]) -> str:
    mark = "●" if row["p_holm"] < 0.05 else "○"
    return f"{_share(row) or _nats(row) + ' nats'} {mark}"


def _share(row: Mapping[str, Any]) -> str:
    value, low, high = (100 * row[name] for name in ("share", "share_low", "share_high"))
    return "" if np.isnan(value) else f"{value:.0f} % ({low:.0f} to {high:.0f} %)"


def _nats(row: Mapping[str, Any]) -> str:
    return signed(row["gain"], row["half"])


def _note(baselines: Iterable[str]) -> str:
    over = " or ".join(dict.fromkeys(baselines))
    return (
        f"The gain over {over} as a share of the oracle's, which chooses by the truth, with its 95 % "
        "interval: a bootstrap over worlds and documents. In nats where there is none: of the oracle, and "
        "where the oracle is not surely better than chance. ●: differs from chance after Holm's correction "
        f"for all ways of the setting, at 0.05, from {CLAIM} worlds on; ○: not shown. Empty: not run there."
    )


def _long(rows: pd.DataFrame, settings: Iterable[str]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        {
            "setting": row["setting"],
            "way": row["way"],
            "worlds": str(row["worlds"]),
            "gain (nats)": _nats(row),
            "p (Holm)": p_value(row["p_holm"]),
            "sd over worlds": number(row["sd_over_worlds"], 3),
            "would show in 8 of 10, corrected": number(row["would_show"], 3),
            "share of the oracle's": _share(row),
        }
        for name in settings
        for row in rows[rows["setting"] == name].to_dict("records")
    )


def _said(setting: Setting) -> str:
    """What a setting is made of, what it could show, and whether it may be used."""
    worlds, gains = len(setting.worlds), [line.gain for line in setting.lines]
    documents = max((gain.documents for gain in gains), default=0)
    if not gains:
        return (
            f"{setting.name}: no run of {setting.baseline} shares a seed with another, so none is compared."
        )
    text = f"{setting.name}: {worlds} world{'s' if worlds != 1 else ''} that all ways finished"
    text += f", {documents} documents. " if documents else ". "
    if setting.partial:
        text += f"Left out, as not all ways have finished: worlds {', '.join(map(str, setting.partial))}. "
    if worlds > 1:
        text += (
            f"A pair's difference varies by {setting.noise:.2f} nats from world to world (median over "
            f"{len(gains)} ways), so {smallest(setting.noise, worlds, len(gains)):.2f} would be shown in 8 "
            "of 10 such studies after correction. "
        )
    if not setting.shared:
        why = "the oracle is not surely better than chance" if worlds > 1 else "one world has no interval"
        if not any(line.share for line in setting.lines):
            why = "there are not an oracle and another way"
        text += f"No shares, and not in the figure: {why}. "
    if setting.cleared is None:
        return text + "Whether its oracle teaches ability was not measured (evaluation=ability)."
    one = setting.cleared
    if np.isnan(one.own.half):
        text += "One world does not tell whether it is to be used: "
    else:
        text += "Used: " if one else "Not to be used: "
    text += (
        f"choosing by the truth raises own over other by {_with_half(one.own)} nats an answer over the "
        f"untrained model, and its loss is {_with_half(one.floor)} nats a token below the prompt-blind floor"
    )
    if one.untrained > 0:
        text += f" (the untrained model's already is, by {one.untrained:.2f}, so the first says more)"
    return text + "."


def _beneath(rows: pd.DataFrame, setting: str, baseline: str) -> str:
    """A panel's title but for its first line."""
    own = rows[rows["setting"] == setting]
    best, worlds = own[own["way"] == ORACLE]["gain"], int(own["worlds"].max())
    said = f"{worlds} world{'s' if worlds != 1 else ''}"
    return said + (f"\noracle {best.iloc[0]:+.2f} nats" if len(best) else "") + f"\nover {baseline}"


def _with_half(difference: Difference) -> str:
    return signed(difference.mean, difference.half, 2)


def _losses(settings: Sequence[Setting], folders: Mapping[str, Path]) -> pd.DataFrame:
    """A line per document of a world: its tokens, and the summed loss after each way (nll in nats); of
    studies by loss."""
    import pandas as pd

    parts = []
    for setting in settings:
        for seed in setting.worlds if setting.metric == "loss" else []:
            runs = {way: folders[of[seed]] for way, of in setting.runs.items() if seed in of}
            first = next(iter(runs.values()))
            found = {BASE: _samples(first, "base scores")}
            found |= {way: _samples(run, "scores") for way, run in runs.items()}
            found = {way: samples for way, samples in found.items() if len(samples)}
            if found:
                tokens = next(iter(found.values()))["tokens"]
                nll = {way: samples["nll"].round(3) for way, samples in found.items()}
                parts.append(pd.DataFrame({"setting": setting.name, "seed": seed, "tokens": tokens} | nll))
    if not parts:
        return pd.DataFrame(columns=["task", "id", "setting", "seed", "tokens"])
    return pd.concat(parts).rename_axis(["task", "id"]).reset_index()


def _samples(run: Path, stage: str) -> pd.DataFrame:
    import pandas as pd

    samples = file(artifacts(run).get(stage, run) / "samples.jsonl")
    if not samples.is_file():
        return pd.DataFrame()
    return pd.read_json(samples, lines=True).set_index(["task", "id"])[["nll", "tokens"]]
