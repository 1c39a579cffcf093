"""What training will cost, before any of it starts: examples, tokens and device hours, from a throughput that
the configuration states.

Only training is priced: selection, embedding and evaluation depend on the machine more than on the plan.
Cells that share a mixture, a recipe and a seed share one training, which is counted once, and a finished one
costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from smartdpp.config.schema import Price
from smartdpp.run.cell import Run, run_rows


@dataclass(frozen=True)
class Training:
    """One training's cost; None where nothing known says it."""

    examples: int | None  # rows read over all epochs
    tokens: float | None
    hours: float | None  # of one device

    def __str__(self) -> str:
        if self.examples is None and self.tokens is None:
            return "size known after the corpus stage"
        tokens = (
            "tokens known after the corpus stage"
            if self.tokens is None
            else f"about {self.tokens:,.0f} tokens"
        )
        examples = "" if self.examples is None else f"{self.examples:,} examples, "
        return f"{examples}{tokens}" + ("" if self.hours is None else f", {self.hours:,.2f} device hours")


def training(run: Run) -> Training:
    """What is left to pay for this run's training: nothing if its weights are there, or if it trains
    nothing."""
    if not run.trains or run.adapter.finished:
        return Training(0, 0.0, 0.0)
    price, pool = (
        Price(**run.cfg.price),
        run.corpus.meta()["facts"]["n_pool"] if run.corpus.finished else None,
    )
    epochs, per_example = (
        run.cfg.recipe.get("epochs", 1),
        _tokens_per_example(run) or price.tokens_per_example,
    )
    if run.terms.budget_tokens is not None and not run.mixture.finished:
        tokens: float | None = run.terms.budget_tokens * epochs
        examples = round(run.terms.budget_tokens * epochs / per_example) if per_example else None
    else:
        chosen = run.mixture.meta()["facts"]["n"] if run.mixture.finished else None
        rows = run.parts.strategy.size(pool or 0, run.budget) if chosen is None else chosen
        if not rows:  # the whole pool, which nobody has counted
            return Training(None, None, None)
        examples = round(rows * epochs)
        tokens = per_example and per_example * examples
    return Training(
        examples, tokens, tokens and price.tokens_per_second and tokens / price.tokens_per_second / 3600
    )


def warmed(run: Run, group: str) -> Training:
    """What is left to pay for the training that the embedding of this group reads."""
    if run.warmups[group].finished:
        return Training(0, 0.0, 0.0)
    if not run.corpus.finished:
        return Training(None, None, None)
    price = Price(**run.cfg.price)
    rows = getattr(run.parts, group).warmup.rows(run.corpus.meta()["facts"]["n_pool"])
    examples = round(rows * run.cfg[group].warmup.recipe.get("epochs", 1))
    per_example = _tokens_in_pool(run) or price.tokens_per_example
    tokens = per_example and per_example * examples
    return Training(
        examples, tokens, tokens and price.tokens_per_second and tokens / price.tokens_per_second / 3600
    )


def total(runs: Sequence[Run]) -> str:
    """One paragraph: all trainings that these runs still need, each counted once."""
    needed = {run.adapter.key: training(run) for run in runs if run.trains and not run.adapter.finished}
    needed |= {
        artifact.key: warmed(run, group)
        for run in runs
        for group, artifact in run.warmups.items()
        if not artifact.finished
    }
    priced = list(needed.values())
    tokens = [cost.tokens for cost in priced if cost.tokens is not None]
    hours = [cost.hours for cost in priced if cost.hours is not None]
    unknown = sum(cost.examples is None and cost.tokens is None for cost in priced)
    done = sum(run.done for run in runs)
    text = (
        f"{len(runs)} cells, {done} of them done: {len(priced)} trainings to do, "
        f"{sum(cost.examples or 0 for cost in priced):,} examples"
    )
    if uncounted := sum(cost.examples is None and cost.tokens is not None for cost in priced):
        text += f" and those of {uncounted} budgets in tokens"
    if tokens:
        text += f", about {sum(tokens):,.0f} tokens"
    if hours:
        text += (
            f", {sum(hours):,.1f} device hours at {runs[0].cfg.price.tokens_per_second:,.0f} tokens/s "
            "(price.tokens_per_second)"
        )
    elif priced:
        missing = "tokens_per_second" if runs[0].cfg.price.tokens_per_second is None else "tokens_per_example"
        text += f"; no hours without price.{missing}=NUMBER"
    if unknown:
        text += (
            f"; {unknown} trainings on whole pools are not in it: their size is known after the corpus stage"
        )
    return text + ". Embedding, selection and evaluation are not priced."


def _tokens_per_example(run: Run) -> float | None:
    """The mixture's own mean if it has been chosen, else the pool's if it has been read."""
    if run.mixture.finished:
        facts = run.mixture.meta()["facts"]
        return facts["tokens"] / facts["n"]
    return _tokens_in_pool(run)


def _tokens_in_pool(run: Run) -> float | None:
    if not run.corpus.finished:
        return None
    return float(run_rows(run, columns=["n_tokens"])["n_tokens"].to_numpy().mean())
