"""How far a sweep is: cells by their state, and every cell that is not done by name with the first line of
its error."""

from __future__ import annotations

from smartdpp.config.schema import HOW, PATHS
from smartdpp.report.content import Block, Fold, Section, Table, Text
from smartdpp.study.cells import Cell

ORDER = ("done", "running", "failed", "diverged", "damaged", "unfinished", "missing", "invalid")


def counts(found: list[Cell]) -> dict[str, int]:
    return {state: n for state in ORDER if (n := sum(cell.state == state for cell in found))}


def shared(found: list[Cell]) -> str:
    """The overrides that all cells have, files aside: what a study was given beside what its YAML says."""
    return ", ".join(
        override
        for override in (_what(found[0]) if found else [])
        if "=" in override
        and override.split("=")[0].partition(".")[2].split(".")[-1] not in PATHS  # model=tiny is no file
        and all(override in cell.overrides for cell in found)
    )


def section(found: list[Cell]) -> Section:
    import pandas as pd

    total = f"{len(found)} cell{'' if len(found) == 1 else 's'}"
    blocks: list[Block] = [
        Text(f"{total}: {', '.join(f'{count} {state}' for state, count in counts(found).items())}.")
    ]
    named = [(" ".join(_what(cell)), cell) for cell in found]
    noted = sorted(
        ((name, cell) for name, cell in named if cell.state not in ("done", "missing") or cell.detail),
        key=lambda n: ORDER.index(n[1].state),
    )
    if noted:
        lines = [{"cell": name, "state": cell.state} for name, cell in noted]
        if any(cell.detail for _, cell in noted):
            lines = [
                line | {"first line of the error": cell.detail}
                for line, (_, cell) in zip(lines, noted, strict=True)
            ]
        blocks.append(Table(pd.DataFrame(lines)))
    if missing := [{"cell": name, "state": cell.state} for name, cell in named if cell.state == "missing"]:
        blocks.append(Fold(f"{len(missing)} not started", (Table(pd.DataFrame(missing)),)))
    if any(cell.state != "done" for cell in found):
        blocks.append(Text("The command that started them starts again exactly what is not done."))
    if any(cell.state == "damaged" for cell in found):
        blocks.append(
            Text(
                "Damaged runs are not in the report. python -m smartdpp.store verify ROOT removes what is "
                "damaged; then the "
                "command that started them makes it again."
            )
        )
    return Section("Cells", tuple(blocks))


def _what(cell: Cell) -> list[str]:
    """A cell's overrides, but for those of how it is run."""
    return [one for one in cell.overrides if one.split("=")[0].split(".")[0] not in HOW]
