"""The settings in which finished runs differ, seeds aside, and the labels made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from smartdpp.config.schema import GROUPS

if TYPE_CHECKING:
    import pandas as pd

BUDGETS = {"budget": "budget (examples)", "budget_tokens": "budget (tokens)"}  # with their unit
# keys at the top that say how a mixture is chosen, beside its budget, and what a run has that does not ask
ASKED = {
    "tokens_by": "gain",
    "weights": 1,
    "max_share": "none",
    "repeat": 1,
    "start": "none",
    "start_include": False,
}


def labels(table: pd.DataFrame, names: list[str]) -> list[str]:
    """What tells the runs apart in words: the strategy, then those of the settings ``names`` that apply to
    it."""
    return [", ".join([row["strategy"], *_named(row, names)]) for row in table.to_dict("records")]


def settings(configs: list[dict[str, Any]], rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The choices in which runs differ, seeds aside: one line per run, None where a setting does not apply.

    configs: flat, ``group.parameter`` to value. A group's parameters are compared among runs with the same
    option of that group: that two strategies have different parameters is what makes them two strategies.
    """
    import pandas as pd

    chosen = {key for row in rows for key in row if key in GROUPS or "@" in key} - {"tracker"}
    columns: dict[str, list[Any]] = {"strategy": [row["strategy"] for row in rows]}
    for key in sorted(chosen):
        owner = (
            "strategy"
            if key.startswith("function@strategy.")
            else "embedding"
            if key.startswith("recipe@embedding.")
            else None
        )
        values = [row.get(key) for row in rows]
        if _differ(values, [row.get(owner) if owner else None for row in rows]):
            columns[key] = values
    if len({row["budget"] for row in rows} - {None}) > 1:
        columns["budget"] = [row["budget"] for row in rows]
    tokens = {row.get("budget_tokens") for row in rows}  # beside budgets in examples one of them is told too
    if len(tokens - {None}) > 1 or (tokens - {None} and any(row["budget"] for row in rows)):
        columns["budget_tokens"] = [row.get("budget_tokens") for row in rows]
    for key in dict.fromkeys(key for config in configs for key in config):
        group = key.split(".")[0]
        if group in ASKED:
            found = [config.get(key, ASKED[group]) for config in configs]
            asked = [ASKED[group] if value is None else value for value in found]
            if len(set(map(str, asked))) > 1:
                columns[key] = asked
            continue
        if group not in (*GROUPS, "pool") or group == "tracker" or key.endswith("_target_"):
            continue
        option = "embedding@probe" if group == "probe" else group
        # a list as it is written: what groups and pairs runs must be hashable
        values = [str(v) if isinstance(v := config.get(key), list) else v for config in configs]
        if key.endswith(".seed") and values == [row.get("seed") for row in rows]:
            continue  # a seed is a world of its own, pool and documents too: runs are paired by it
        if _differ(values, [row.get(option) for row in rows]):
            columns[key] = values
    return pd.DataFrame(columns)


def _differ(values: list[Any], among: list[Any]) -> bool:
    """Whether two runs with equal ``among`` have different values, neither of them None."""
    seen: dict[Any, set[str]] = {}
    for value, group in zip(values, among, strict=True):
        if value is not None:
            seen.setdefault(group, set()).add(str(value))
    return any(len(group) > 1 for group in seen.values())


def _named(row: dict[str, Any], names: list[str]) -> list[str]:
    """``num_tasks=8`` for a parameter, ``tasks=graph_cut`` for an option inside a strategy, ``mistral_7b``
    for an option of a group."""
    import pandas as pd

    shown = [name for name in names if not pd.api.types.is_scalar(row[name]) or pd.notna(row[name])]
    return [plain(row[name]) if name in GROUPS else f"{short(name)}={plain(row[name])}" for name in shown]


def short(name: str) -> str:
    """The last part of a setting's name: ``num_tasks`` of strategy.num_tasks, ``probe`` of
    embedding@probe."""
    return name.rpartition("@")[2].rpartition(".")[2]


def plain(value: Any) -> str:
    """A setting as it is written in YAML; "" where it does not apply."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, (bool, np.bool_)):
        return str(value).lower()
    return f"{value:.0f}" if isinstance(value, float) and value.is_integer() else str(value)


def of_strategy(name: str) -> bool:
    """Whether a setting belongs to the way of choosing, rather than to what all ways of choosing are compared
    under."""
    groups = (
        "strategy",
        "function@strategy",
        "query",
        "quality",
        "task_vector",
        "embedding",
        "recipe@embedding",
    )
    return name.split(".")[0] in ASKED or (name.startswith(groups) and not of_measure(name))


def of_measure(name: str) -> bool:
    """Whether a setting says how diversity is measured: no mixture and no training depends on it."""
    return name.split(".")[0] in ("diversity", "probe", "embedding@probe")
