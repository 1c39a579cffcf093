"""From samples, one per document, to scores: one estimate and one standard error per task and metric.

loss nats per response token: total nll / total tokens of the task's documents, the end-of-text token excluded
bits_per_byte total nll / ln 2 / total UTF-8 bytes of the responses: comparable between tokenizers exact_match
share of generations equal to the response, both stripped of surrounding whitespace, case kept rouge_l mean
ROUGE-L F1 of generation and response (Lin 2004; rouge_score, no stemming; it reads Latin letters and digits
only) accuracy share of documents whose right choice has the highest total log-likelihood; the first wins a
tie win_rate mean preference of a judge for the answer over its reference, and lc_win_rate at equal length:
see smartdpp.evaluation.judgement

task_score mean of what reasoning-gym's own scorers give a generation, from 0 to 1, over the rows that have
one: see smartdpp.evaluation.scorers

blind_loss, own_over_other, own_first: see smartdpp.evaluation.contrast

word_perplexity, byte_perplexity exp of nats per word and per byte of a document that is scored from its first
token on (lm-eval's
               loglikelihood_rolling); its loss and bits per byte are of the whole document too

Any other number in a sample is a metric of lm-eval's own and is averaged over documents. Standard errors are
over documents; for the ratios by linearisation (Cochran, Sampling Techniques, ch. 6). One document has no
standard error: null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from smartdpp.errors import NotFinite
from smartdpp.metrics import METRICS
from smartdpp.store.disk import write_text

Sample = dict[str, Any]

# a metric that is a ratio of sums: what is summed, by the sum of what, in which unit
RATIOS = {
    "loss": ("nll", "tokens", 1.0),
    "bits_per_byte": ("nll", "bytes", 1 / math.log(2)),
    "blind_loss": ("blind_nll", "tokens", 1.0),
}
# of rolling documents, which alone have words
PERPLEXITIES = {"word_perplexity": "words", "byte_perplexity": "bytes"}
FACTS = {
    "task",
    "id",
    "nll",
    "blind_nll",
    "tokens",
    "bytes",
    "words",
    "prompt_tokens",
    "generation",
    "target",
    "choice_logprobs",
    "truncated",
    "reference",
    "verdict",
}


def metrics(samples: Iterable[Sample]) -> list[str]:
    """Names of the metrics that at least one sample has: the ratios first, then in order of appearance."""
    seen: dict[str, None] = {}
    for sample in samples:
        seen.update(
            dict.fromkeys(name for name, (part, _, _) in RATIOS.items() if sample.get(part) is not None)
        )
        if sample.get("words") is not None:
            seen.update(dict.fromkeys(PERPLEXITIES))
        seen.update(
            dict.fromkeys(name for name, value in sample.items() if name not in FACTS and value is not None)
        )
    return sorted(seen, key=lambda name: name not in RATIOS)


def terms(samples: list[Sample], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Numerators and denominators, float64[n] each: the metric is the ratio of their sums, of a perplexity
    its logarithm. Samples without it count 0 in both."""
    if metric in PERPLEXITIES:
        pairs = [
            (sample["nll"], sample[PERPLEXITIES[metric]]) if sample.get("words") is not None else (0, 0)
            for sample in samples
        ]
    elif metric in RATIOS:
        part, size, scale = RATIOS[metric]
        pairs = [
            (sample[part] * scale, sample[size]) if sample.get(part) is not None else (0, 0)
            for sample in samples
        ]
    else:
        pairs = [(sample[metric], 1) if sample.get(metric) is not None else (0, 0) for sample in samples]
    numerator, denominator = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return numerator, denominator


def task_scores(samples: list[Sample]) -> dict[str, Any]:
    """n documents, and for each metric its estimate and ``<metric>_se``; None for what no number holds."""
    scores: dict[str, Any] = {"n": len(samples)}
    for metric in metrics(samples):
        numerator, denominator = terms(samples, metric)
        n, total = np.count_nonzero(denominator), denominator.sum()
        estimate = numerator.sum() / total
        residual = numerator - estimate * denominator
        error = np.sqrt(n / (n - 1) * (residual**2).sum()) / total if n > 1 else None
        if metric in PERPLEXITIES:
            with np.errstate(over="ignore"):
                estimate = np.exp(estimate)
            error = None if error is None else estimate * error  # to first order
        scores[metric] = float(estimate) if np.isfinite(estimate) else None
        scores[f"{metric}_se"] = None if error is None or not np.isfinite(error) else float(error)
    return scores


def main_metric(mean: dict[str, Any]) -> str:
    """The metric that a run's score is: the first of ours that was measured, else the first of lm-eval's
    own."""
    return next(
        name for name in (*METRICS, *mean) if name in mean and name != "n" and not name.endswith("_se")
    )


def mean_scores(tasks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Macro-average: every task counts the same. Each metric is averaged over the tasks that have it."""
    mean: dict[str, Any] = {"n": sum(scores["n"] for scores in tasks.values())}
    for metric in dict.fromkeys(
        name.removesuffix("_se") for scores in tasks.values() for name in scores if name.endswith("_se")
    ):
        values = [scores[metric] for scores in tasks.values() if metric in scores]
        errors = [scores[f"{metric}_se"] for scores in tasks.values() if metric in scores]
        mean[metric] = None if None in values else float(np.mean(values))
        mean[f"{metric}_se"] = (
            None if None in errors else float(np.sqrt(np.sum(np.square(errors))) / len(errors))
        )
    return mean


def exact_match(generation: str, target: str) -> float:
    return float(generation.strip() == target.strip())


def rouge_l(generation: str, target: str) -> float:
    from rouge_score.rouge_scorer import RougeScorer

    return float(RougeScorer(["rougeL"]).score(target, generation)["rougeL"].fmeasure)


def write_samples(path: Path, samples: Iterable[Sample]) -> None:
    """NotFinite, before anything is written, for a document whose log-likelihood is NaN or infinite."""
    samples = list(samples)
    for sample in samples:
        if not np.isfinite([sample.get("nll") or 0.0, *(sample.get("choice_logprobs") or [])]).all():
            raise NotFinite(
                f"the model's log-likelihood of document {sample['id']} of task {sample['task']} is NaN or "
                "infinite"
            )
    write_text(path, "".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples))


def read_samples(path: Path) -> list[Sample]:
    """One dict per document, in the order written. Lines end with a newline only: a text may hold other line
    separators."""
    with path.open(encoding="utf-8", newline="\n") as lines:
        return [json.loads(line) for line in lines]
