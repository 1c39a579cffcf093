"""What it costs to keep the records as they came: the corpus stage with and without them, disk and processor
time.

    python experiments/benchmarks/originals.py                 300,000 rows
    python experiments/benchmarks/originals.py --rows 30000

Data as in reading.py, prompts and responses with a field more that rows do not have. Each measurement is a
process of its own that builds the corpus with a tokenizer of words, so that tokenizing weighs little; what is
timed is the processor's time of that process, as other work goes on beside it. Written: originals.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from reading import RESULTS, ROOT, rows

MEASURE = """
import json, re, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from smartdpp.corpus.build import Limits, build
from smartdpp.corpus.jsonl import Jsonl
from smartdpp.evaluation.none import NoEvaluation

class Rows:
    def __init__(self, path): self.rows = Jsonl(path).rows

words = Tokenizer(models.WordLevel({"<unk>": 0, "<eos>": 1}, unk_token="<unk>"))
words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", eos_token="<eos>")
out, corpus = Path(sys.argv[3]), (Jsonl if sys.argv[4] == "kept" else Rows)(sys.argv[2])
began = time.process_time()
build(corpus, NoEvaluation(), tokenizer, "plain", Limits(max_tokens=1000), out)
seconds = time.process_time() - began
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
print(json.dumps([seconds, peak / 2**20]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    lines = [
        f"{given.rows:,} rows through the corpus stage, their records kept and not",
        "",
        "| | given, MiB | data.parquet, MiB | records.parquet, MiB | processor s, not kept | kept | "
        "peak GiB, not kept | kept |",
        "|---|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        made = [{**row, "note": {"number": i}} for i, row in enumerate(rows(given.rows, False))]
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(made), folder / "rows.parquet", row_group_size=10_000)
        del made
        for name in ("rows.jsonl", "rows.parquet"):
            found = {}
            for how in ("left", "kept"):
                out = folder / f"{name}-{how}"
                command = [sys.executable, "-c", MEASURE, str(ROOT), str(folder / name), str(out), how]
                done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
                found[how] = json.loads(done.stdout.splitlines()[-1])
            sizes = [
                folder / name,
                folder / f"{name}-kept" / "data.parquet",
                folder / f"{name}-kept" / "records.parquet",
            ]
            cells = [f"{path.stat().st_size / 2**20:.0f}" for path in sizes]
            cells += [f"{found[how][0]:.1f}" for how in found] + [f"{found[how][1]:.2f}" for how in found]
            lines.append(f"| `{name}` | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "originals.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
