"""The report of a run, of several, or of a study, from the files that runs leave: also while a sweep still runs.

    python -m smartdpp.report runs/A [runs/B ...]                        runs, or folders of runs
    python -m smartdpp.report experiments/quickstart.yaml [key=value ...]  a study; overrides as given to run.py

It writes results.csv (one flat row per finished run), tasks.csv (one row per run and task of the pool), report.md and the figures.
Intervals are 95 % t intervals over seeds; differences are paired by seed. One seed gets no interval, and two carry no claim.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from smartdpp.config import HOW
from smartdpp.correlate import LENGTH, MEASURES, RESAMPLES, reading, within_budgets
from smartdpp.errors import InputError
from smartdpp.figures import LOSSES, hover_scatter, main_metric, run_figures, study_figures, t_interval
from smartdpp.gather import Results, collect, of_strategy, run_folders
from smartdpp.result import METRICS
from smartdpp.store import DISK_ERRORS, write_text
from smartdpp.study import Cell, Wanted, cells, state, wanted
from smartdpp.summary import LABELS

if TYPE_CHECKING:
    import pandas as pd

SEEDS = ["seed", "select_seed", "train_seed"]
CLAIM = 3  # pairs of runs below which a difference is no claim


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m smartdpp.report", description="Tables and figures of finished runs.")
    parser.add_argument("what", nargs="+", help="run folders; or a study's YAML and the overrides it was run with")
    parser.add_argument("--out", type=Path, help="folder to write into")
    args = parser.parse_intermixed_args(argv)
    try:
        if Path(args.what[0]).suffix in (".yaml", ".yml"):
            study = Path(args.what[0])
            report, found = wanted(study), cells(study, args.what[1:])
            out = args.out or study.parent / "results" / study.stem
        else:
            runs = run_folders([Path(what) for what in args.what])
            found = [Cell((run.name,), run, *state(run)) for run in runs]
            report = Wanted(title=runs[0].name if len(runs) == 1 else f"{len(runs)} runs")
            out = args.out or (runs[0] / "report" if len(runs) == 1 else Path("report"))
        try:
            text, files = write(found, report, out)
        except OSError as error:
            if error.errno not in DISK_ERRORS:
                raise
            raise InputError(f"cannot write {error.filename or out}: {error.strerror}. Choose another folder with --out PATH") from error
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(text)
    print(f"written into {out}: {', '.join(file.name for file in files)}")
    return 0


def write(found: list[Cell], report: Wanted, out: Path) -> tuple[str, list[Path]]:
    """Writes the report into ``out``; returns the text of report.md up to the figures, and the files written."""
    results = collect([cell.path for cell in found if cell.state == "done" and cell.path])
    out.mkdir(parents=True, exist_ok=True)
    sections = [f"# {report.title}", _header(results.table), _states(found)]
    files, figures = [out / "report.md"], []
    if len(results.table):
        for name, table in (("results.csv", results.table), ("tasks.csv", results.shares)):
            write_text(out / name, table.convert_dtypes().to_csv(index=False))
            files.append(out / name)
        sections.append(_leaderboard(results))
        if len(found) == 1 and found[0].path:
            sections += [_change(results), _by_task(results)]
            figures = run_figures(found[0].path, out)
        else:
            sections += [_paired(results, report.baseline), _by_task(results), _correlations(results, report.given)]
            trained = results.table[results.table["n"] > 0]
            figures = study_figures(trained, out, results.shares)
            if hover := hover_scatter(trained, out, results.shares):
                files.append(hover)
                sections.append(f"[Diversity against performance, with each run's mixture under the mouse]({hover.name})")
    text = "\n\n".join(section for section in sections if section)
    pictures = "".join(f"\n\n![{path.stem.replace('_', ' ')}]({path.name})" for path in figures)
    write_text(out / "report.md", text + pictures + "\n")
    return text, files + figures


def _header(table: pd.DataFrame) -> str:
    if table.empty:
        return ""

    def all_of(name: str) -> str:
        return ", ".join(str(value) for value in table[name].dropna().unique()) if name in table else ""

    commits = ", ".join(str(commit)[:10] for commit in table["commit"].dropna().unique()) if "commit" in table else ""
    changed = " with uncommitted changes" if "uncommitted" in table and table["uncommitted"].notna().any() else ""
    facts = {
        "model": all_of("model"),
        "recipe": all_of("recipe"),
        "corpus": all_of("corpus"),
        "evaluation": all_of("evaluation"),
        "commit": commits + changed if commits else "",
        "machine": all_of("machine"),
        "device": all_of("device"),
        "precision": all_of("dtype"),
    }
    return "\n".join(f"- {name}: {value}" for name, value in facts.items() if value)


def _states(found: list[Cell]) -> str:
    """Counts, and every cell that is not done by name."""
    import pandas as pd

    counts = pd.Series([cell.state for cell in found]).value_counts()
    total = f"{len(found)} cell{'' if len(found) == 1 else 's'}"
    text = f"## Cells\n\n{total}: {', '.join(f'{count} {name}' for name, count in counts.items())}."
    noted = [cell for cell in found if cell.state != "done" or cell.detail]
    if not noted:
        return text
    lines = [{"cell": " ".join(o for o in cell.overrides if o.split("=")[0] not in HOW), "state": cell.state} for cell in noted]
    if any(cell.detail for cell in noted):
        lines = [line | {"first line of the error": cell.detail} for line, cell in zip(lines, noted, strict=True)]
    text += f"\n\n{_table(pd.DataFrame(lines))}"
    if any(cell.state != "done" for cell in found):
        text += "\n\nThe command that started them starts again exactly what is not done."
    return text


def _leaderboard(results: Results) -> str:
    """One row per setting, best first, and the base model's."""
    import pandas as pd

    table, main_one = results.table, main_metric(results.table)
    metrics = _metrics(table)
    by = _columns(results)
    trained = table[table["n"] > 0]
    records = []
    for values, group in _best_first(trained, by, main_one):
        record: dict[str, Any] = {_heading(name): _plain(value) for name, value in zip(by, values, strict=True)} | {
            "seeds": str(len(group))
        }
        record |= {LABELS[metric]: _mean(group[metric], 3) for metric in metrics}
        if "ldd" in group and group["ldd"].notna().any():
            record |= {"LDD (nats/example)": _mean(group["ldd"].dropna(), 3), "at n": f"{group['ldd_n'].iloc[0]:.0f}"}
            record |= {
                "kept (%)": _mean(100 * group["diversity_kept_share"], 1),
                "copies (%)": _mean(100 * group["diversity_duplicate_share"], 1),
            }
        record |= {
            "examples": _mean(group["n"], 0),
            "tasks": f"{_mean(group['tasks'], int(group['tasks'].nunique() > 1))} of {group['tasks_in_pool'].iloc[0]:.0f}",
        }
        if "made_in/mixture" in group:
            record["selection (s)"] = _mean(group["made_in/mixture"], 1)
        records.append(record | {"run (s)": _mean(group["total_s"], 0)})
    context = [name for name in results.settings if name.split(".")[0] in ("corpus", "model", "evaluation", "pool")]
    groups = table.groupby(context, dropna=False, sort=False) if context else [((), table)]
    for values, group in groups:
        record = {_heading(name): _plain(value) for name, value in zip(context, values, strict=True)}
        record |= {"strategy": "base model, not finetuned", "seeds": ""}
        records.append(
            record | {LABELS[metric]: _number(group[f"{metric}_base"].iloc[0], 3) for metric in metrics if f"{metric}_base" in group}
        )
    sizes = trained.groupby(by, dropna=False).size()
    tasks = sum(name.startswith(f"{main_one}/") for name in table)
    notes = [
        f"Scores are means over {tasks} held-out tasks"
        + (f" ({results.documents} documents)" if results.documents else "")
        + "; ± is the 95 % t interval over seeds, left out where all seeds agree."
    ]
    if len(sizes) and sizes.min() == 1:
        notes.append("One seed: no interval.")
    if len(sizes) and (sizes == 2).any():
        notes.append("Two seeds: the interval is wide and carries no claim.")
    if "ldd" in table:
        notes.append(
            "LDD is the log determinant distance, lower is more diverse; it is read at one n within a budget and compares only there."
        )
        notes.append("kept: picks above the truncation, of the mixture; copies: rows that repeat an earlier one exactly.")
    notes.append("run (s): all stages from nothing, as if nothing had been cached.")
    return f"## Results\n\n{_table(pd.DataFrame(records).fillna(''))}\n\n{' '.join(notes)}"


def _best_first(table: pd.DataFrame, by: list[str], metric: str) -> list[tuple[tuple[Any, ...], pd.DataFrame]]:
    """The groups of ``by``: smallest budget first, those without one last; within a budget the best mean first."""
    sign = 1 if metric in LOSSES else -1
    groups = list(table.groupby(by, dropna=False, sort=False))
    return sorted(groups, key=lambda item: (item[1]["budget"].fillna(np.inf).iloc[0], sign * item[1][metric].mean()))


def _change(results: Results) -> str:
    """What one run alone can say: its own paired interval over documents."""
    row, lines = results.table.iloc[0], []
    for metric in _metrics(results.table):
        names = [f"{metric}_change", f"{metric}_change_low", f"{metric}_change_high"]
        if row["n"] and all(name in row and row[name] is not None for name in names):
            change, low, high = (row[name] for name in names)
            lines.append(f"- {LABELS[metric]}: {change:+.3f} ({low:+.3f} to {high:+.3f})")
    if not lines:
        return ""
    return (
        "## Finetuned against base\n\n"
        + "\n".join(lines)
        + "\n\n95 % intervals by paired bootstrap over documents within tasks; they hold for these tasks and this seed."
    )


def _paired(results: Results, baseline: str) -> str:
    """Differences to the baseline, run by run with the same seeds and settings."""
    import pandas as pd

    table = results.table[results.table["n"] > 0]
    base, others = table[table["strategy"] == baseline], table[table["strategy"] != baseline]
    if others.empty:
        return ""
    title = f"## Against {baseline}, seed by seed\n\n"
    if base.empty:
        return f"{title}There is no finished run of {baseline} to compare with."
    shared = [name for name in results.settings if not of_strategy(name)]
    if base.duplicated(["budget", *shared, *SEEDS]).any():
        return f"{title}{baseline} was run in several settings of its own, so there is no one run to pair with."
    metrics = _metrics(table)
    # a strategy without a budget (the full pool) is compared at every budget of the baseline
    free = others[others["budget"].isna()].drop(columns="budget").merge(pd.DataFrame({"budget": base["budget"].unique()}), how="cross")
    others = pd.concat([others[others["budget"].notna()], free])
    keys = ["budget", *shared, *SEEDS]
    pairs = others.merge(base[[*keys, *metrics]], on=keys, suffixes=("", "_of_baseline"))
    if pairs.empty:
        return f"{title}No finished run shares its seed with one of {baseline} yet."
    by, records = _columns(results), []
    for values, group in _best_first(pairs, by, metrics[0]):
        record = {_heading(name): _plain(value) for name, value in zip(by, values, strict=True)} | {"pairs": str(len(group))}
        for metric in metrics:
            differences = (group[metric] - group[f"{metric}_of_baseline"]).dropna()
            if differences.empty:
                continue
            mean, half = t_interval(differences)
            record[f"Δ {LABELS[metric]}"] = f"{mean:+.3f}" + ("" if np.isnan(half) else f" ± {half:.3f}")
            if metric == metrics[0]:
                record[f"{metric.replace('_', ' ')}: reading"] = _reading(mean, half, len(differences), metric)
        records.append(record)
    note = f"Mean over pairs of runs with the same seed, minus {baseline}; ± is the 95 % t interval of the difference, "
    note += "not corrected for the number of rows."
    if min(int(record["pairs"]) for record in records) < CLAIM:
        note += " One or two seeds carry no claim."
    return f"{title}{_table(pd.DataFrame(records).fillna(''))}\n\n{note}"


def _reading(mean: float, half: float, pairs: int, metric: str) -> str:
    if pairs < CLAIM:
        return f"no claim from {pairs} seed{'s' if pairs > 1 else ''}"
    if abs(mean) <= half or mean == 0:
        return "no difference shown"
    return "better" if (mean < 0) == (metric in LOSSES) else "worse"


def _by_task(results: Results) -> str:
    """The main metric on every held-out task: the mean over seeds."""
    import pandas as pd

    table, metric = results.table[results.table["n"] > 0], main_metric(results.table)
    tasks = [name for name in table if name.startswith(f"{metric}/")]
    if not tasks or table.empty:
        return ""
    shown = table if table["budget"].nunique() <= 1 else table[(table["budget"] == table["budget"].max()) | table["budget"].isna()]
    means = {label: group[tasks].mean() for (label,), group in _best_first(shown, ["label"], metric)}
    frame = pd.DataFrame({"task": [name.partition("/")[2] for name in tasks]})
    if results.base_tasks:
        frame["base model"] = [_number(results.base_tasks.get(task, np.nan), 3) for task in frame["task"]]
    for label, column in means.items():
        frame[label] = [_number(value, 3) for value in column]
    at = f" at budget {table['budget'].max():.0f}" if table["budget"].nunique() > 1 else ""
    return f"## Held-out tasks\n\nMean {LABELS[metric]} over seeds{at}.\n\n{_table(frame)}"


def _correlations(results: Results, given: Sequence[str]) -> str:
    """Diversity against performance, within a budget, every measure by how well it predicts."""
    import pandas as pd

    metric = main_metric(results.table)
    if missing := [name for name in given if name not in results.table]:
        raise InputError(f"report.given names {', '.join(missing)}, which no run logged; results.csv has {', '.join(results.table)}")
    controls = [(LENGTH,), *((name,) for name in given)]
    records, warnings = [], []
    for group in within_budgets(results, metric, controls):
        where = {_heading(name): _plain(value) for name, value in group.where.items()}
        if group.warning:
            named = ", ".join(f"{name} {value}" for name, value in where.items() if value != "") or "without a budget"
            warnings.append(f"{named}: {group.warning}")
        records += [where | _predictor(line, group.runs, metric, controls) for line in group.ranking.to_dict("records")]
    if not records and not warnings:
        return ""
    text = f"## Diversity against performance\n\nEvery measure against {LABELS[metric]}, one point a run, within a budget; "
    text += "the best predictor first."
    if records:
        text += f"\n\n{_table(pd.DataFrame(records).fillna(''))}\n\n"
        text += (
            "LDD and copies: lower is more diverse; the other measures: higher. The last column reads the sign of r: whether more diverse "
            f"runs have the better {metric.replace('_', ' ')}. Brackets: 95 % bootstrap intervals over runs, percentiles of {RESAMPLES} "
            "resamples. Runs of one strategy are not independent of each other, which makes them narrower than they should be; and of many "
            "measures the best one looks better than it is. One left out: the range of r when any one run is."
        )
    return "\n\n".join([text, *warnings])


def _predictor(line: dict[str, Any], runs: pd.DataFrame, metric: str, controls: Sequence[Sequence[str]]) -> dict[str, str]:
    names = {LENGTH: "mean response length"}
    low, high = line["leave_one_out"]
    return {
        "measure": MEASURES[line["measure"]][0],
        "n runs": str(line["n"]),
        "n strategies": str(runs.loc[runs[line["measure"]].notna(), "label"].nunique()),
        "Pearson r": str(line["pearson"]),
        "Spearman ρ": str(line["spearman"]),
        "Kendall τ": str(line["kendall"]),
        **{
            f"Pearson r given {', '.join(names.get(c, c) for c in columns)}": str(line[f"given {', '.join(columns)}"])
            for columns in controls
        },
        "r, one left out": "" if np.isnan(low) else f"{low:+.2f} to {high:+.2f}",
        "more diverse is": reading(line["measure"], line["pearson"], metric in LOSSES),
    }


def _metrics(table: pd.DataFrame) -> list[str]:
    """The metrics shown. Bits per byte say the same as the loss unless models with different tokenizers are compared."""
    several = "model" in table and table["model"].nunique() > 1
    return [metric for metric in METRICS if metric in table and (several or metric != "bits_per_byte" or "loss" not in table)]


def _columns(results: Results) -> list[str]:
    return ["strategy", *(["budget"] if results.table["budget"].nunique() > 1 else []), *results.settings]


def _heading(name: str) -> str:
    return "budget (examples)" if name == "budget" else name


def _mean(values: pd.Series, digits: int) -> str:
    """Mean ± half width of the 95 % t interval; the mean alone for one value, or where all are the same."""
    values = values.dropna()
    if values.empty:
        return ""
    mean, half = t_interval(values)
    return _number(mean, digits) if len(values) == 1 or values.nunique() == 1 else f"{mean:.{digits}f} ± {half:.{digits}f}"


def _number(value: Any, digits: int) -> str:
    return "" if value is None or np.isnan(value) else f"{value:.{digits}f}"


def _plain(value: Any) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    return f"{value:.0f}" if isinstance(value, float) and value.is_integer() else str(value)


def _table(frame: pd.DataFrame) -> str:
    """Markdown. Cells may hold data (task names, messages), which must stay literal: what Markdown would interpret is escaped."""

    def line(cells: Iterable[Any]) -> str:
        return "| " + " | ".join(re.sub(r"([\\`*\[\]<>|!])", r"\\\1", " ".join(str(cell).split())) for cell in cells) + " |"

    numbers = [frame[name].astype(str).str.match(r"[-+]?\d|$").all() for name in frame]
    rule = "|" + "|".join("---:" if number else "---" for number in numbers) + "|"
    return "\n".join([line(frame.columns), rule, *(line(row) for row in frame.itertuples(index=False))])


if __name__ == "__main__":
    sys.exit(main())
