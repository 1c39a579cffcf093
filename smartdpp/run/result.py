"""result.json: one flat row that says what a run was and what came of it, written last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from smartdpp.evaluation.scores import main_metric
from smartdpp.metrics import METRICS, TOWARDS
from smartdpp.run.cell import Run
from smartdpp.run.stages import artifacts
from smartdpp.store.disk import read_json, write_json

# of the mixture, where it was asked for
ASKED = (
    "budget_tokens",
    "tokens_spent",
    "repeats",
    "start",
    "start_given",
    "start_missing",
    "start_outside",
    "start_included",
)


def write(run: Run, seconds: dict[str, float]) -> dict[str, Any]:
    """Collects the row from the finished artifacts and writes it into the run's folder.

    ``seconds/<stage>`` were spent now; ``made_in/<stage>`` are the seconds its artifact took when it was
    made, possibly by another run.
    """
    from smartdpp.strategies.mixture import content, read

    row: dict[str, Any] = {"run": run.slug, **run.names}
    row |= {name: run.what[name] for name in ("budget", "seed", "select_seed", "train_seed")}
    mixture = run.mixture.meta()["facts"]
    row |= {name: mixture[name] for name in ("n", "n_pool", "tasks", "tasks_in_pool", "tokens")}
    row |= {name: mixture[name] for name in (*ASKED, *TOWARDS) if name in mixture}
    # the same in runs that trained on the same rows in the same order
    row["mixture_content"] = content(read(run.mixture.here()))
    scored, score = _scored(run) if run.evaluates else ({}, {"score": None, "score_metric": None})
    row |= scored
    if run.trains:
        training = run.adapter.meta()["facts"]
        row["mean_response_tokens"] = training["response_tokens"] / training["rows"]
        row |= {name: training[name] for name in ("steps", "train_loss", "dtype", "device")}
        row |= {f"diversity_{name}": value for name, value in run.diversity.meta()["facts"].items()}
    for name, artifact in artifacts(run).items():
        meta = artifact.meta()
        row |= {
            f"seconds/{name}": round(seconds.get(name, 0.0), 2),
            f"made_in/{name}": meta["seconds"],
            f"peak_gib/{name}": meta["peak_gib"],
        }
    row |= score
    row |= {name: meta[name] for name in ("commit", "uncommitted", "machine")}  # of the last stage
    write_json(run.path / "result.json", {name: _plain(value) for name, value in row.items()})
    return row


def _scored(run: Run) -> tuple[dict[str, Any], dict[str, Any]]:
    """Every metric of the run, on the whole and by task, with its interval; and which of them is its score.
    Of each evaluation beside the main one the same, with its name in front (``indomain/loss``), and
    ``evaluations`` names them."""
    facts = run.scores.meta()["facts"]
    row, score = _scored_by(run.base.here(), run.scores.here(), facts)
    for name, of_another in facts.get("others", {}).items():
        its, its_score = _scored_by(run.base.here() / name, run.scores.here() / name, of_another)
        row |= {f"{name}/{column}": value for column, value in (its | its_score).items()}
    return row | ({"evaluations": ",".join(facts["others"])} if "others" in facts else {}), score


def _scored_by(before: Path, after: Path, evaluated: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of one evaluation, from its files on the base and the finetuned model."""
    from smartdpp.evaluation.compare import mean_interval, paired
    from smartdpp.evaluation.scores import read_samples

    at = {"base": before, "tuned": after}
    base, tuned = (read_json(folder / "scores.json") for folder in at.values())
    row: dict[str, Any] = {}
    samples = {which: read_samples(folder / "samples.jsonl") for which, folder in at.items()}
    main = main_metric(tuned["mean"])
    metrics = list(dict.fromkeys([main, *(metric for metric in METRICS if metric in tuned["mean"])]))
    for metric in metrics:
        row |= {f"{metric}_base": base["mean"][metric], metric: tuned["mean"][metric]}
        for which, name in (("base", f"{metric}_base"), ("tuned", metric)):
            mean = mean_interval(samples[which], metric)
            row |= {f"{name}_low": mean["low"], f"{name}_high": mean["high"]}
        change = paired(samples["base"], samples["tuned"], metric)
        row |= {
            f"{metric}_change": change["estimate"],
            f"{metric}_change_low": change["low"],
            f"{metric}_change_high": change["high"],
        }
    for task, scores in tuned["tasks"].items():
        row |= {f"{metric}/{task}": scores[metric] for metric in metrics if metric in scores}
    row |= {f"judge_{name}": value for name, value in tuned.get("judge", {}).items()}
    row |= {"documents": tuned["mean"]["n"], "documents_passed_over": sum(evaluated["passed_over"].values())}
    row |= {
        "documents_truncated": evaluated["truncated"],
        "tasks_without_documents": len(evaluated["lost_tasks"]),
    }
    return row, {"score": tuned["mean"][main], "score_metric": main}


def scored(row: dict[str, Any]) -> bool:
    """False for the row of a run with `evaluation=none`."""
    return row.get("score_metric", "") is not None


def _plain(value: Any) -> Any:
    """JSON has no NaN: a number that could not be had is null."""
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
