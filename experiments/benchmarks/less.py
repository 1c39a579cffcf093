"""How far LESS's ranking with Adam's scale as rows times columns is from that with the elementwise scale.

    python experiments/benchmarks/less.py DATA.jsonl.gz            SmolLM2-135M
    python experiments/benchmarks/less.py DATA.jsonl.gz --tiny     a random model, to try it

DATA has a prompt and a response a line. ``--rows`` of those up to ``--max-tokens`` long are drawn with a
fixed seed as the pool, and ``--query`` more. The warm-up is that of embedding=less, on a share of the pool.
At every checkpoint one backward pass makes all forms of each row's gradient, so they differ in nothing else;
a row's score is the mean over the query of the inner products of normalised vectors. Compared with the scores
of the elementwise form (the authors'): Spearman's correlation, and how many of the best tenth are the same.
Its second projection says how far the sketch alone moves a ranking; the form without the example's own
square, how much of the rest that part explains. Written: less.csv and less.md.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from smartdpp.embedding.warmup import Warmup, train
from smartdpp.finetune import Finetune
from smartdpp.gradient import gradients
from smartdpp.gradient.adam import BETA1, BETA2, EPSILON, Elementwise, Plain, RankOne
from smartdpp.gradient.reductions import Sketch
from smartdpp.models import SmolLM2, Tiny
from smartdpp.models.batches import encoded
from smartdpp.models.checkpoints import adapter_layers, checkpoints, loaded, moments

RESULTS = Path(__file__).resolve().parents[1] / "results" / "benchmarks"
FORMS = {
    "adam_rank_one": "rows times columns (`adam_rank_one`)",
    "without_square": "elementwise, without the example's own square",
    "another_projection": "elementwise, by another projection",
    "none": "no scale (`none`)",
}


class WithoutSquare(Elementwise):
    def add(self, name: str, kept: Any, delta: Any, out: Any) -> None:
        m, v = self.moments[name]
        g = delta.float().transpose(1, 2) @ kept.float()
        scaled = (BETA1 * m + (1 - BETA1) * g) / (BETA2 * v + EPSILON).sqrt()
        self.inner.add(name, self.whole[name], scaled.transpose(1, 2), out)


class Beside:
    """Several reductions of one backward pass, one after another."""

    def __init__(self, of: dict[str, Plain]) -> None:
        self.of, self.modules = of, next(iter(of.values())).modules
        ends = np.cumsum([one.size for one in of.values()]).tolist()
        self.place = {name: slice(end - of[name].size, end) for name, end in zip(of, ends, strict=True)}
        self.size = ends[-1]

    def keep(self, name: str, x: Any) -> Any:
        return x

    def add(self, name: str, kept: Any, delta: Any, out: Any) -> None:
        for form, one in self.of.items():
            one.add(name, one.keep(name, kept), delta, out[:, self.place[form]])


def read(options: argparse.Namespace, model: Any) -> Any:
    import pyarrow as pa

    with gzip.open(options.data, "rt", encoding="utf-8") as file:
        lines = file.readlines()
    random.Random(0).shuffle(lines)
    tokenizer, rows = model.tokenizer(), []
    for i, line in enumerate(lines):
        row = {"id": str(i), **{name: json.loads(line)[name] for name in ("prompt", "response")}}
        (example,) = encoded(tokenizer, model.format, pa.Table.from_pylist([row]))
        if len(example.ids) <= options.max_tokens:
            rows.append(row)
        if len(rows) == options.rows + options.query:
            return pa.Table.from_pylist(rows)
    raise SystemExit(f"{options.data}: only {len(rows)} rows of at most {options.max_tokens} tokens")


def scores(options: argparse.Namespace, model: Any, rows: Any, out: Path) -> tuple[Any, np.ndarray]:
    """By form float[E, n], and η [E]."""
    tokenizer, kept = model.tokenizer(), checkpoints(out)
    at, examples = loaded(model, kept), encoded(tokenizer, model.format, rows)
    found: dict[str, list[np.ndarray]] = {form: [] for form in ("adam_exact", *FORMS)}
    for i, one in enumerate(kept):
        modules, m = adapter_layers(at(i), i), moments(one)
        a, b = (Sketch(modules, options.dim, seed) for seed in (0, 1))
        of = {"none": Plain(a), "adam_rank_one": RankOne(a, m), "adam_exact": Elementwise(a, m)}
        of |= {"without_square": WithoutSquare(a, m), "none_again": Plain(b)}
        of |= {"another_projection": Elementwise(b, m)}
        beside, X = Beside(of), np.empty((len(rows), 6 * options.dim), np.float32)
        for done in gradients(at(i), beside, examples, tokenizer.pad_token_id, 1024):
            X[done.rows] = done.vectors
        parts = {form: X[:, place] + of[form].shift for form, place in beside.place.items()}
        unit = {form: Y / np.linalg.norm(Y, axis=1, keepdims=True) for form, Y in parts.items()}
        for form in found:
            of_query = unit["none_again" if form == "another_projection" else "none"]
            found[form].append(unit[form][: options.rows] @ of_query[options.rows :].mean(0))
    eta = np.array([one.learning_rate for one in kept])
    return {form: np.stack(each) for form, each in found.items()}, eta / eta.sum()


def main() -> None:
    from scipy.stats import spearmanr

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--tiny", action="store_true")
    for name, usual in (("rows", 200), ("query", 16), ("max-tokens", 96), ("dim", 4096), ("epochs", 4)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--share", type=float, default=0.3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    model: Any = Tiny() if options.tiny else SmolLM2()
    rows = read(options, model)
    recipe = Finetune(epochs=float(options.epochs), scheduler="linear")
    with tempfile.TemporaryDirectory() as folder:
        facts = train(Warmup(recipe, options.share), model, rows.slice(0, options.rows), Path(folder))
        found, eta = scores(options, model, rows, Path(folder))
    top, lines = options.rows // 10, []
    for e in (*range(len(eta)), "all"):
        of = {form: eta @ each if e == "all" else each[e] for form, each in found.items()}
        best = set(np.argsort(-of["adam_exact"])[:top].tolist())
        for form in FORMS:
            same = len(best & set(np.argsort(-of[form])[:top].tolist()))
            rank = float(spearmanr(of[form], of["adam_exact"]).statistic)
            lines.append({"checkpoint": e if e == "all" else e + 1, "form": form, "spearman": rank})
            lines[-1] |= {"same_of_top": same, "top": top}
    with (options.out / "less.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows(lines)
    heads = [*(f"checkpoint {e + 1} (η {eta[e]:.2f})" for e in range(len(eta))), "all, weighted"]
    text = [
        "# How far LESS's ranking is from its authors' when Adam's scale is rows times columns",
        "",
        f"{model.name}, {options.rows} rows of at most {options.max_tokens} tokens ranked towards a query of "
        f"{options.query}; warm-up: LoRA of rank {recipe.rank} on {facts['rows']} rows, "
        f"{facts['steps']} steps, {len(eta)} checkpoints, train loss {facts['train_loss']:.2f}; sketch of "
        f"{options.dim} numbers. Beside the elementwise form (`embedding.preconditioner=adam_exact`): "
        "Spearman's correlation of the scores, "
        f"and how many of the best {top} are the same. `python experiments/benchmarks/less.py` made it "
        "(one draw of rows, one seed).",
        "",
        f"| form | {' | '.join(heads)} |",
        f"|---|{'---:|' * len(heads)}",
    ]
    for form, words in FORMS.items():
        cells = [f"{x['spearman']:.3f}, {x['same_of_top']}" for x in lines if x["form"] == form]
        text.append(f"| {words} | {' | '.join(cells)} |")
    (options.out / "less.md").write_text("\n".join(text) + "\n", encoding="utf-8")
    print("\n".join(text))


if __name__ == "__main__":
    main()
