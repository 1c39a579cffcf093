"""Compares the datasets inside real corpora by every diversity measure, and asks each measure about sets
whose order is known beforehand.

    python experiments/benchmarks/diversity.py T0.jsonl.gz BBH.jsonl.gz embedding=minilm; two cores: about
    seven minutes
    python experiments/benchmarks/diversity.py ... --rows 100 --embedding tfidf    smaller, seconds

The first corpus has the fields ``dataset`` and ``task`` (a dataset's tasks are its prompt templates); it is
compared whole and dataset by dataset, every further one whole. All sets are drawn to the same number of rows
by a seeded draw: all is read, and a part of it measured.

Known orders, each from several pairs of sets of one size, the first the more diverse by construction:
  copies           a set, and the same with half or nine tenths of its rows replaced by copies of the others
  near copies      the same, the copies moved by 1 % of their length
  one dataset      rows of all datasets, and rows of one
  one template     rows of all datasets and templates, and rows of one template of one dataset
  subspace         random directions in d dimensions, and in a random subspace of d/2, d/4, ...
  rotated          a set and the same rotated: no order, both must read the same
And one that is plausible but not known, because a dataset's templates are filled with the same texts, so that
these recur:
  (its templates)  rows of one dataset under all its templates, and under one
Written: datasets.csv, orders.csv, diversity.md, diversity.png, and the embeddings in store/, so that a second
call, or one after a kill, goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
RESULTS = Path(__file__).resolve().parents[1] / "results" / "diversity_measures"
REPEATS = 8  # pairs of a kind, at most
LOW = ("ldd", "ldd_untruncated")  # lower is more diverse
SAME = 0.005  # relative difference below which two sets read the same


class Pair(NamedTuple):
    """Two sets whose order is known, each with the pool that coverage and clusters refer to."""

    kind: str
    what: str
    more: np.ndarray
    less: np.ndarray
    pool: np.ndarray
    pool_of_less: np.ndarray


def pairs(
    vectors: dict[str, np.ndarray], templates: list[tuple[str, str]], whole: str, seed: int
) -> Iterator[Pair]:
    """Every known order, of sets named in ``vectors`` and of made-up ones."""
    pool = np.concatenate(list(vectors.values()))
    rng = np.random.default_rng(seed)
    datasets = [name for name in vectors if "/" not in name and name != whole][
        :: max(1, len(vectors) // REPEATS // 2)
    ][:REPEATS]
    n, d = vectors[whole].shape
    for name in datasets:
        X = vectors[name]
        for share in (0.5, 0.9):
            kept = rng.permutation(len(X))[: round(len(X) * (1 - share))]
            copies = np.resize(kept, len(X))
            yield Pair("copies", f"{name}, {share:.0%}", X, X[copies], pool, pool)
            moved = rng.normal(size=X.shape)
            moved *= (
                0.01
                * np.linalg.norm(X[copies], axis=1, keepdims=True)
                / np.linalg.norm(moved, axis=1, keepdims=True)
            )
            near = (X[copies] + moved * (np.arange(len(X)) >= len(kept))[:, None]).astype(np.float32)
            yield Pair("near copies", f"{name}, {share:.0%}", X, near, pool, pool)
        if len(X) == n:
            yield Pair("one dataset", name, vectors[whole], X, pool, pool)
        rotation = np.linalg.qr(rng.normal(size=(d, d)))[0]
        yield Pair(
            "rotated", name, X, (X @ rotation).astype(np.float32), pool, (pool @ rotation).astype(np.float32)
        )
    for dataset, template in templates:
        m = min(len(vectors[dataset]), len(vectors[template]))
        yield Pair("one template", template, vectors[whole][:m], vectors[template][:m], pool, pool)
        yield Pair("(its templates)", template, vectors[dataset][:m], vectors[template][:m], pool, pool)
    for k in (d // 2, d // 4, d // 8, d // 16):
        basis = np.linalg.qr(rng.normal(size=(d, k)))[0]
        full, part = (
            rng.normal(size=(n, d)).astype(np.float32),
            (rng.normal(size=(n, k)) @ basis.T).astype(np.float32),
        )
        both = np.concatenate([full, part])
        yield Pair("subspace", f"{k} of {d}", full, part, both, both)


def judge(name: str, kind: str, more: float, less: float) -> bool:
    """Whether a measure's two readings say what is known."""
    if kind == "rotated":
        return abs(more - less) <= SAME * max(abs(more), abs(less), 1e-9)
    return more < less if name in LOW else more > less


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpora", nargs="+", type=Path)
    parser.add_argument("--rows", type=int, default=150)
    parser.add_argument("--embedding", default="minilm")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--root", type=Path, default=Path("."), help="where store/ is")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()

    import pandas as pd
    from tqdm import tqdm

    from smartdpp.comparison.command import node as node_of
    from smartdpp.comparison.compare import COLUMNS, compare, markdown, shown
    from smartdpp.comparison.figure import draw
    from smartdpp.comparison.sets import Rows, embed, read
    from smartdpp.config.check import component
    from smartdpp.corpus.jsonl import Jsonl
    from smartdpp.diversity.components import AllMeasures, LogDetDistance
    from smartdpp.diversity.sensitivity import sensitivity, summary
    from smartdpp.store.disk import write_text

    first, *others = (Jsonl(str(path)) for path in args.corpora)
    label = args.corpora[0].name.partition(".")[0]
    whole = f"{label} (all)"
    datasets = read({label: first}, "dataset", args.rows, args.seed)
    templates = [
        one for one in read({label: first}, "task", args.rows, args.seed) if len(one.rows) == args.rows
    ]
    # one template of each dataset that has one large enough
    per_dataset = {one.rows[0]["dataset"]: one for one in templates}
    single = [
        Rows(f"{dataset}/{one.name}", one.rows, one.total)
        for dataset, one in list(per_dataset.items())[: 2 * REPEATS : 2]
    ]
    further = [
        read({path.name.partition(".")[0]: corpus}, None, args.rows, args.seed)[0]
        for path, corpus in zip(args.corpora[1:], others, strict=True)
    ]
    everything = Rows(
        whole, read({label: first}, None, args.rows, args.seed)[0].rows, sum(one.total for one in datasets)
    )
    sets = [everything, *further, *datasets]

    node = node_of("embedding", [f"embedding={args.embedding}"])
    vectors = embed([*sets, *single], component("embedding", node), node, args.root)
    by_name = {one.name: X for one, X in zip([*sets, *single], vectors, strict=True)}

    measures = AllMeasures(log_det=LogDetDistance())
    found = compare(sets, vectors[: len(sets)], measures)

    lines = []
    of_first = {name: X for name, X in by_name.items() if name not in [one.name for one in further]}
    known = list(
        pairs(of_first, [(one.name.partition("/")[0], one.name) for one in single], whole, args.seed)
    )
    for kind, what, more, less, pool, pool_of_less in tqdm(known, desc="known orders", unit="pair"):
        read_a, read_b = measures.log_det.measure(more), measures.log_det.measure(less)
        at = min(len(read_a["curve"]), len(read_b["curve"]))
        a, b = measures.companions(more, pool), measures.companions(less, pool_of_less)
        a |= {
            "ldd": read_a["curve"][at - 1],
            "ldd_untruncated": read_a["ldd_untruncated"],
            "kept_share": read_a["kept_share"],
        }
        b |= {
            "ldd": read_b["curve"][at - 1],
            "ldd_untruncated": read_b["ldd_untruncated"],
            "kept_share": read_b["kept_share"],
        }
        for name in a:
            right = judge(name, kind, a[name], b[name])
            lines.append(
                {
                    "order": kind,
                    "what": what,
                    "n": at,
                    "measure": name,
                    "more_diverse": a[name],
                    "less_diverse": b[name],
                    "right": right,
                }
            )
    orders = pd.DataFrame(lines)

    kinds = list(dict.fromkeys(orders["order"]))
    names = {
        "ldd": "LDD at a common n",
        "kept_share": "kept/N beside LDD",
        **{k: v[0] for k, v in COLUMNS.items() if k not in ("ldd", "kept_share")},
    }
    verdicts = []
    for name in [
        "ldd",
        "kept_share",
        *(n for n in dict.fromkeys(orders["measure"]) if n not in ("ldd", "kept_share")),
    ]:
        row = {"measure": names[name]}
        for kind in kinds:
            right = orders[(orders["measure"] == name) & (orders["order"] == kind)]["right"]
            said = "" if kind.startswith("(") else "right " if right.all() else "WRONG "
            row[kind] = f"{said}{right.sum()}/{len(right)}"
        verdicts.append(row)
    verdict = pd.DataFrame(verdicts)

    matrices = {one.name: X for one, X in zip(sets, vectors, strict=False) if len(one.rows) == found.rows}
    moved = summary(sensitivity(matrices))

    certain = orders[~orders["order"].str.startswith("(")]
    wrong = {
        name: ", ".join(
            f"{kind} ({right.sum()} of {len(right)} pairs right)"
            for kind, right in of.groupby("order", sort=False)["right"]
            if not right.all()
        )
        for name, of in certain.groupby("measure", sort=False)
    }
    failed = "\n".join(
        f"- **{names[name]}**: {where}" for name, where in wrong.items() if where and name != "kept_share"
    )
    always = [
        names[name] for name, right in certain.groupby("measure", sort=False)["right"].all().items() if right
    ]
    full = found.table[~found.table["too_small"]]
    copied = full[full["duplicate_share"] > 0.1]
    said = [
        f"{row['set']} ({row['duplicate_share']:.0%} copies, {int(i) + 1} of {len(full)} by LDD)"
        for i, row in copied.iterrows()
    ]
    rho = {
        part: full["ldd"].corr(full[f"{part}_words"], method="spearman") for part in ("prompt", "response")
    }

    args.out.mkdir(parents=True, exist_ok=True)
    write_text(args.out / "datasets.csv", found.table.to_csv(index=False))
    write_text(args.out / "orders.csv", orders.to_csv(index=False))
    read_rows = sum(one.total for one in [*further, *datasets])
    also = "".join(f"; {one.name}: {one.total}" for one in further)
    text = f"""# Diversity measures on real datasets

{read_rows} rows read ({label}: {everything.total} in {len(datasets)} datasets{also}); of each set {found.rows}
were drawn (seed {args.seed}, where it has as many). Embedding: {args.embedding}, {vectors[0].shape[1]} dimensions. {" ".join(found.notes)}

**Right on every known order:** {", ".join(always) or "none"}.

**Wrong on a known order:**

{failed or "none."}

kept/N is no measure of its own: it says how much LDD dropped, and stands in the table to be read beside it.

## Known orders

Each cell: pairs of sets whose order is known beforehand that the measure puts in that order. For `rotated`, where nothing may change,
pairs that read the same within {SAME:.1%}.

{markdown(verdict)}

copies, near copies: half or nine tenths of the rows are copies of the others (near: moved by 1 % of their length). one dataset: against
rows of all datasets. one template: rows of one prompt template of one dataset, against rows of all. subspace: random directions in a part
of the dimensions. (its templates): one template against its dataset under all its templates. That order is plausible but not known,
because the templates of a dataset are filled with the same texts: fewer texts then come several times.

LDD drops copies before it is read, so copies hardly move it, and kept/N and the share of copies have to be read beside it:
{", ".join(said) or "no set here has more than a tenth of copies"}. An encoder cuts long prompts, so that prompts with one beginning become
copies. Spearman's ρ of LDD with the mean length of prompts over the {len(full)} sets: {rho["prompt"]:+.2f}, of responses:
{rho["response"]:+.2f}.

## Datasets

{markdown(shown(found))}

## What the log determinant distance hangs on

One choice varied at a time; Kendall's τ between the ranking of the {len(matrices)} full sets under it and the ranking above.

{markdown(moved)}

![diversity](diversity.png)
"""  # noqa: E501
    write_text(args.out / "diversity.md", text)
    draw(found, args.out / "diversity.png")
    print(verdict.to_string(index=False), moved.to_string(index=False), "\n".join(found.notes), sep="\n\n")


if __name__ == "__main__":
    main()
