"""What it cost: seconds of each stage, peak memory, tokens, and energy where the device reports it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from smartdpp.report.content import Block, Section, Table, Text
from smartdpp.report.numbers import best_first, columns, described, mean
from smartdpp.run.folder import artifacts
from smartdpp.store.disk import read_json
from smartdpp.store.remote import META, file
from smartdpp.study.results import Results, main_metric

if TYPE_CHECKING:
    import pandas as pd

# logged by stages that ran on a GPU
FROM_META = {"peak_gpu_gib": "peak GPU memory (GiB)", "energy_wh": "energy (Wh)"}


def section(results: Results) -> list[Section]:
    import pandas as pd

    table = results.table[results.table["n"] > 0].assign(**_logged(results))
    stages = [name for name in table if name.startswith("made_in/")]
    if not stages or table.empty:
        return []
    by, records = columns(results), []
    for values, group in best_first(table, by, main_metric(table)):
        record: dict[str, Any] = described(by, values) | {"runs": str(len(group))}
        record |= {f"{name.partition('/')[2]} (s)": mean(group[name], 1) for name in stages}
        record["in all (s)"] = mean(group["total_s"], 0)
        record["tokens, trained on"] = mean(group["tokens"], 0)
        peaks = [name for name in group if name.startswith("peak_gib/")]
        if peaks and group[peaks].notna().any(axis=None):
            record["peak memory (GiB)"] = f"{np.nanmax(group[peaks].to_numpy(dtype=float)):.2f}"
        for name, head in FROM_META.items():
            if name in group and group[name].notna().any():
                record[head] = f"{group[name].max():.2f}" if name == "peak_gpu_gib" else mean(group[name], 2)
        records.append(record)
    blocks: list[Block] = [Table(pd.DataFrame(records).fillna(""))]
    note = "Seconds are those of the run that made each stage's artifact, mean ± 95 % t interval over runs; "
    note += "in all: as if nothing had been cached. "
    note += "Peak memory: the most that any stage of any run held, of the process."
    if "energy_wh" not in table or table["energy_wh"].isna().all():
        note += " Energy: not available, no device reported it."
    return [Section("Cost", (*blocks, Text(note)), brief=False)]


def _logged(results: Results) -> dict[str, pd.Series]:
    """What stages logged beside result.json: the most GPU memory of any, the energy of all; no column where
    none did."""
    import pandas as pd

    at = results.table.index[results.table["n"] > 0]
    metas = [
        [
            read_json(meta)
            for path in artifacts(results.folders[i]).values()
            if (meta := file(path / META)).is_file()
        ]
        for i in at
    ]
    found = {
        "peak_gpu_gib": [
            max((meta["peak_gpu_gib"] for meta in of_run if "peak_gpu_gib" in meta), default=np.nan)
            for of_run in metas
        ],
        "energy_wh": [
            sum(e) if (e := [m["energy_wh"] for m in of_run if m.get("energy_wh") is not None]) else np.nan
            for of_run in metas
        ],
    }
    return {name: pd.Series(values, index=at) for name, values in found.items() if not np.isnan(values).all()}
