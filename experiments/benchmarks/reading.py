"""Times the reading of a pool from JSON lines, a JSON array and parquet, beside another checkout of this
project.

    python experiments/benchmarks/reading.py                              300,000 rows
    python experiments/benchmarks/reading.py --against ../before the same rows read by the code in that
    folder, too

Data: prompts and responses of 20 to 120 words, drawn with a seed; conversations of two turns each and a
system turn. Each measurement is a process of its own, so its peak memory is its own; what is timed is
`Jsonl.rows()` to its end, ids included, nothing tokenized. The fastest of ``--repeat``, as other work only
slows it. Written: reading.md.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "experiments" / "results" / "benchmarks"
FORMATS = ("rows.jsonl", "rows.json", "rows.parquet")
MEASURE = """
import json, re, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from smartdpp.corpus.jsonl import Jsonl
began = time.perf_counter()
n = sum(1 for _ in Jsonl(sys.argv[2]).rows())
seconds = time.perf_counter() - began
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])  # of this process alone, unlike ru_maxrss
print(json.dumps([n, seconds, peak / 2**20]))
"""  # noqa: E501


def rows(n: int, conversations: bool) -> Iterator[dict[str, Any]]:
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(5000)]

    def text() -> str:
        return " ".join(draw.choices(words, k=draw.randint(20, 120)))

    for i in range(n):
        if conversations:
            turns = [
                ("system", "Be brief."),
                ("user", text()),
                ("assistant", text()),
                ("user", text()),
                ("assistant", text()),
            ]
            yield {
                "task": f"task {i % 50}",
                "messages": [{"role": role, "content": said} for role, said in turns],
            }
        else:
            yield {"task": f"task {i % 50}", "prompt": text(), "response": text()}


def write(folder: Path, n: int, conversations: bool) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    made = list(rows(n, conversations))
    lines = "".join(json.dumps(row) + "\n" for row in made)
    (folder / "rows.jsonl").write_text(lines)
    (folder / "rows.json").write_text(json.dumps(made))
    pq.write_table(pa.Table.from_pylist(made), folder / "rows.parquet", row_group_size=10_000)


def measured(tree: Path, path: Path, repeat: int) -> tuple[float, float]:
    """Seconds, and peak memory in GiB."""
    found = []
    for _ in range(repeat):
        command = [sys.executable, "-c", MEASURE, str(tree), str(path)]
        found.append(
            json.loads(subprocess.run(command, capture_output=True, text=True, check=True, cwd=tree).stdout)
        )
    return min(seconds for _, seconds, _ in found), max(peak for *_, peak in found)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    trees = {"now": ROOT} | ({"before": given.against.resolve()} if given.against else {})
    head = [f"{what} {name}" for name in trees for what in ("s", "rows/s", "peak GiB")]
    lines = [
        f"{given.rows:,} rows, read to the end",
        "",
        f"| | MiB | {' | '.join(head)} |",
        "|" + "---|" * (2 + len(head)),
    ]
    with tempfile.TemporaryDirectory() as folder:
        for what, conversations in (("prompt and response", False), ("conversations", True)):
            write(Path(folder) / what, given.rows, conversations)
            for name in FORMATS:
                path = Path(folder) / what / name
                cells = []
                for tree in trees.values():
                    seconds, peak = measured(tree, path, given.repeat)
                    cells += [f"{seconds:.1f}", f"{given.rows / seconds:,.0f}", f"{peak:.2f}"]
                lines.append(
                    f"| {what}, `{name}` | {path.stat().st_size / 2**20:.0f} | {' | '.join(cells)} |"
                )
                print(lines[-1], flush=True)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "reading.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
