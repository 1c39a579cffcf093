"""In what the cells differ, in what all agree, and each way of choosing with its parameters."""

from __future__ import annotations

import json
from typing import Any

from smartdpp.config.schema import GROUPS
from smartdpp.report.content import Block, Fold, Section, Table, Text
from smartdpp.report.numbers import columns, heading
from smartdpp.study.results import SEEDS, Results
from smartdpp.study.settings import plain


def section(results: Results) -> list[Section]:
    import pandas as pd

    table = results.table
    differing = [*columns(results), *(name for name in SEEDS if name in table and table[name].nunique() > 1)]
    if "select_seed" in differing and (table[SEEDS].nunique(axis=1) == 1).all():
        differing = [name for name in differing if name not in SEEDS[1:]]
    lines = []
    for name in differing:
        values = table[name].map(plain)
        counts = values[values != ""].value_counts(sort=False)
        lines.append(
            {
                "setting": heading(name),
                "values (runs)": ", ".join(f"{value} ({n})" for value, n in counts.items()),
            }
        )
        lines[-1]["does not apply to"] = f"{(values == '').sum()} runs" if (values == "").any() else ""
    blocks: list[Block] = [
        Text(f"In what the {len(table)} finished runs differ; everything else is the same in all of them.")
    ]
    blocks.append(Table(pd.DataFrame(lines)))
    if chosen := _strategies(results):
        blocks.append(Fold("Every way of choosing, with its parameters", (Table(pd.DataFrame(chosen)),)))
    if same := _same(results, set(differing)):
        blocks.append(Fold("What all runs share", (Table(pd.DataFrame(same)),)))
    return [Section("Configuration", tuple(blocks), brief=False)]


def _strategies(results: Results) -> list[dict[str, str]]:
    lines: dict[str, dict[str, str]] = {}
    for label, config in zip(results.table["label"], results.configs, strict=True):
        parameters = {
            key.partition(".")[2]: value for key, value in config.items() if key.startswith("strategy.")
        }
        if parameters:
            about = ", ".join(
                f"{key}={_yaml(value)}" for key, value in parameters.items() if not key.endswith("_target_")
            )
            lines[label] = {
                "label": label,
                "component": str(parameters.get("_target_", "")),
                "parameters": about,
            }
    return list(lines.values())


def _same(results: Results, differing: set[str]) -> list[dict[str, str]]:
    """Settings of the groups that are no part of choosing, with one value in all runs; no paths."""
    configs = [config for config in results.configs if config]
    if not configs:
        return []
    groups = [group for group in (*GROUPS, "pool") if group not in ("strategy", "tracker")]
    kept = {
        key: value
        for key, value in configs[0].items()
        if key.split(".")[0] in groups
        and key not in differing
        and all(config.get(key) == value for config in configs)
    }
    return [{"setting": key, "value": _yaml(value)} for key, value in kept.items()]


def _yaml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
