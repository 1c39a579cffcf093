"""How much of what could be gained each strategy gains, where a study has an oracle."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from smartdpp.metrics import METRICS
from smartdpp.report.against import Documents
from smartdpp.report.content import Section, Table, Text
from smartdpp.report.numbers import best_first, columns, described, metrics, number
from smartdpp.study.gain import Share, Way, recovered
from smartdpp.study.results import SEEDS, Results
from smartdpp.study.swept import alike

if TYPE_CHECKING:
    import pandas as pd

ORACLE = "oracle"


def section(results: Results, baseline: str, documents: Documents) -> list[Section]:
    """Nothing without finished runs of the oracle and of the baseline, which stands for chance."""
    import pandas as pd

    found = list(shares(results, baseline, documents))
    if not found:
        return []
    metric, by = metrics(results.table)[0], columns(results)
    digits = METRICS[metric].digits
    frame = pd.DataFrame(
        described(by, values)
        | {
            "seeds": str(share.seeds),
            f"gain over {baseline}": number(share.gain, digits),
            "share of the oracle's": "" if np.isnan(share.value) else f"{100 * share.value:.0f} %",
            "95 % interval": _interval(share),
        }
        for values, share in found
    )
    unsure = sum(np.isnan(share.value) for _, share in found)
    note = (
        f"The gain in {METRICS[metric]} over {baseline}, as a share of the gain of choosing by the truth; "
        "the interval is a bootstrap over seeds and documents. "
    )
    note += (
        "" if not unsure else f"{unsure} have no share: there the oracle is not surely better than chance."
    )
    return [Section("Share of the oracle's gain", (Table(frame), Text(note.strip())))]


def shares(results: Results, baseline: str, documents: Documents) -> Iterator[tuple[tuple[Any, ...], Share]]:
    """Each way of choosing, as ``columns`` name it, and its share, by the main metric; over the seeds that it
    has in common with both."""
    table = results.table[results.table["n"] > 0]
    metric, keys = metrics(results.table)[0], ["budget", *results.context]
    ends = {
        name: {_key(group, keys): _by_seed(group) for _, group in _panels(table, name, keys)}
        for name in (baseline, ORACLE)
    }
    rest = table[~table["strategy"].isin([baseline, ORACLE])]
    for values, group in best_first(rest, columns(results), metric):
        random, oracle = (ends[name].get(_key(group, keys)) for name in (baseline, ORACLE))
        if random is None or oracle is None:
            continue
        own = _by_seed(group)
        common = sorted(own.keys() & random.keys() & oracle.keys())
        if common:
            ways = [
                _way([runs[seed] for seed in common], metric, documents) for runs in (own, random, oracle)
            ]
            yield values, recovered(ways[0], ways[1], ways[2], METRICS[metric].lower)


def _panels(table: pd.DataFrame, strategy: str, keys: list[str]) -> Any:
    own = table[table["strategy"] == strategy]
    return own.groupby(alike(own, keys), sort=False)


def _key(group: pd.DataFrame, keys: list[str]) -> str:
    return repr(group[keys].astype(str).iloc[0].tolist())


def _by_seed(group: pd.DataFrame) -> dict[tuple[Any, ...], Any]:
    return {tuple(row[name] for name in SEEDS): row for row in group.to_dict("records")}


def _way(runs: list[dict[str, Any]], metric: str, documents: Documents) -> Way:
    influences = [documents.of(run["run"], metric) for run in runs]
    return Way([run[metric] for run in runs], influences if all(influences) else [])


def _interval(share: Share) -> str:
    return "" if np.isnan(share.low) else f"{100 * share.low:.0f} to {100 * share.high:.0f} %"
