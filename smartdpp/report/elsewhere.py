"""Settings of a leaderboard that was made elsewhere, from the files that it wrote: studies are run on several
machines, and their runs stay there."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from smartdpp.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

# what a leaderboard writes, and the columns of each that are needed
ROWS, SETTINGS, LOSSES = "leaderboard.csv", "settings.csv", "losses.csv"
NEEDED = {
    ROWS: {
        *("way", "setting", "worlds", "gain", "half", "sd_over_worlds", "p_holm"),
        *("share", "share_low", "share_high"),
    },
    SETTINGS: {"setting", "baseline", "said"},
    LOSSES: {"task", "id", "setting", "seed", "tokens"},
}


@dataclass(frozen=True)
class Elsewhere:
    """``rows``: one per way and setting; ``settings``: one each, with what is said of it; ``losses``: one per
    document of a world."""

    rows: pd.DataFrame
    settings: pd.DataFrame
    losses: pd.DataFrame


def read(folder: Path, without: Collection[str]) -> Elsewhere:
    """Its settings but those that were measured here. Raises InputError where a file or a column is not
    there."""
    import pandas as pd

    found = []
    for name, needed in NEEDED.items():
        if not (folder / name).is_file():
            raise InputError(
                f"--earlier {folder}: there is no {name}; name the folder of a report of studies side by side"
            )
        frame = pd.read_csv(folder / name)
        if missing := sorted(needed - set(frame)):
            raise InputError(f"--earlier {folder}: {name} has no column {', '.join(missing)}")
        found.append(frame[~frame["setting"].isin(list(without))])
    return Elsewhere(*found)
