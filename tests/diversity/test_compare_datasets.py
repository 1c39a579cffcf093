"""The command that compares datasets: what it reads, at which size and n, and what it writes."""

import gzip
import json
import random

import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from smartdpp.comparison.command import main
from smartdpp.comparison.compare import compare, shown
from smartdpp.comparison.sets import Rows, read
from smartdpp.config.compose import conf_dir
from smartdpp.corpus.jsonl import Jsonl
from smartdpp.diversity import AllMeasures, LogDetDistance

SMALL = ["embedding=tfidf", "embedding.dim=12", "diversity.log_det.reference_seeds=[0,1]"]


def write(path, datasets):
    """name: (rows, texts to draw from)."""
    draw = random.Random(0)
    lines = []
    for name, (n, words) in datasets.items():
        for i in range(n):
            prompt = " ".join(draw.choice(words) for _ in range(6))
            lines.append(
                {
                    "id": f"{name}/{i}",
                    "task": f"{name}_{i % 2}",
                    "dataset": name,
                    "prompt": prompt,
                    "response": "yes " * (1 + i % 3),
                }
            )
    draw.shuffle(lines)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.fixture
def corpora(tmp_path):
    words = [f"word{i}" for i in range(60)]
    first = write(
        tmp_path / "first.jsonl", {"wide": (50, words), "[narrow]": (40, words[:6]), "tiny": (8, words)}
    )
    return [str(first), str(write(tmp_path / "second.jsonl.gz", {"other": (30, words)}))]


def test_datasets_inside_files_are_compared_at_one_size(corpora, tmp_path, capsys):
    out = tmp_path / "out"
    assert main([*corpora, "by=dataset", "rows=25", f"out={out}", f"root={tmp_path}", *SMALL]) == 0
    table = pd.read_csv(out / "diversity.csv").set_index("set")
    assert set(table.index) == {"first/wide", "first/[narrow]", "first/tiny", "second/other"}
    assert table["rows"].to_dict() == {
        "first/wide": 25,
        "first/[narrow]": 25,
        "first/tiny": 8,
        "second/other": 25,
    }
    assert table.loc["first/wide", "total"] == 50
    assert table["too_small"].to_dict() == {
        "first/wide": False,
        "first/[narrow]": False,
        "first/tiny": True,
        "second/other": False,
    }
    assert np.isnan(table.loc["first/tiny", "ldd"])
    assert table.loc["first/[narrow]", "ldd"] > table.loc["first/wide", "ldd"]
    assert table.loc["first/wide", "task_entropy"] == pytest.approx(np.log(2), abs=0.1)
    assert table.loc["first/wide", "prompt_words"] == 6
    printed = capsys.readouterr().out
    assert "fewer than 25 rows, so the numbers do not compare (*): first/tiny" in printed
    assert "25 rows a set, LDD at n = " in printed
    assert "first/[narrow]" in printed
    assert (out / "diversity.png").read_bytes().startswith(b"\x89PNG")
    assert r"first/\[narrow\]" in (out / "diversity.md").read_text()
    assert str(tmp_path) not in (out / "diversity.md").read_text()


def test_without_a_size_the_smallest_set_decides_and_a_second_call_embeds_nothing(
    corpora, tmp_path, capsys, monkeypatch
):
    arguments = [*corpora, f"out={tmp_path / 'out'}", f"root={tmp_path}", "sensitivity=true", *SMALL]
    assert main(arguments) == 0
    first = pd.read_csv(tmp_path / "out" / "diversity.csv")
    assert set(first["set"]) == {"first", "second"}
    assert (first["rows"] == 30).all()
    assert set(pd.read_csv(tmp_path / "out" / "sensitivity.csv")["varied"]) == {
        "none",
        "reference",
        "gamma",
        "truncation",
        "n",
    }
    assert "Kendall" in capsys.readouterr().out
    monkeypatch.setattr("smartdpp.embedding.tfidf.Tfidf.prepare", None)
    assert main(arguments) == 0
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "out" / "diversity.csv"), first)


def test_which_rows_are_drawn_does_not_depend_on_their_order(corpora, tmp_path):
    lines = (tmp_path / "first.jsonl").read_text().splitlines()
    (tmp_path / "shuffled.jsonl").write_text("\n".join(random.Random(1).sample(lines, len(lines))))
    drawn = [
        read({"x": Jsonl(str(tmp_path / f"{name}.jsonl"))}, None, 20, 3)[0] for name in ("first", "shuffled")
    ]
    assert [row["id"] for row in drawn[0].rows] == [row["id"] for row in drawn[1].rows]
    assert (len(drawn[0].rows), drawn[0].total) == (20, 98)
    fewer = read({"x": Jsonl(corpora[0])}, None, 10, 3)[0]
    assert [row["id"] for row in fewer.rows] == [row["id"] for row in drawn[0].rows[:10]]
    other = read({"x": Jsonl(corpora[0])}, None, 20, 4)[0]
    assert {row["id"] for row in other.rows} != {row["id"] for row in drawn[0].rows}


def test_rows_without_the_field_are_a_set_of_their_own(tmp_path):
    path = tmp_path / "x.jsonl"
    rows = [
        {"task": "t", "prompt": str(i), "response": "r", **({"dataset": "d"} if i % 2 else {})}
        for i in range(6)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert [(one.name, one.total) for one in read({"x": Jsonl(str(path))}, "dataset", None, 0)] == [
        ("x", 3),
        ("d", 3),
    ]


def test_a_corpus_of_conf_is_compared_too(tmp_path, capsys):
    arguments = [
        "reasoning_gym",
        "by=task",
        "rows=5",
        "corpus.families=[chain_sum,gcd]",
        "corpus.per_family=6",
    ]
    status = main([*arguments, f"out={tmp_path}", f"root={tmp_path}", *SMALL])
    message = capsys.readouterr()
    assert status == 0, message.err
    assert set(pd.read_csv(tmp_path / "diversity.csv")["set"]) == {"chain_sum", "gcd"}


def test_n_is_read_where_asked(corpora, tmp_path):
    sets = read({"x": Jsonl(corpora[0])}, "dataset", 20, 0)
    vectors = [
        np.random.default_rng(i).normal(size=(len(one.rows), 8)).astype(np.float32)
        for i, one in enumerate(sets)
    ]
    found = compare(sets, vectors, AllMeasures(log_det=LogDetDistance(reference_seeds=(0, 1))), n=6)
    for name, value in zip(found.table["set"], found.table["ldd"], strict=True):
        assert value == found.curves[name][5]
    assert found.table["ldd_sd"].notna().all()


def rows_of(n):
    return [{"id": str(i), "task": "t", "prompt": "p", "response": "r"} for i in range(n)]


def test_a_full_set_that_keeps_too_few_has_no_distance_there():
    sets = [Rows("distinct", rows_of(12), 12), Rows("copies", rows_of(12), 12)]
    X = np.random.default_rng(0).normal(size=(12, 5))
    found = compare(
        sets, [X, np.repeat(X[:4], 3, axis=0)], AllMeasures(log_det=LogDetDistance(reference_seeds=(0,))), n=9
    )
    assert found.table.set_index("set")["ldd"].isna().to_dict() == {"distinct": False, "copies": True}
    assert any("fewer than 9 rows kept" in note for note in found.notes)
    assert list(shown(found)["dataset"]) == ["distinct", "copies *"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.jsonl"], "no such file or folder, and no such corpus"),
        (["{first}", "row=3"], "there is no option 'row'"),
        (["{first}", "rows=0"], "rows=0: give a positive number"),
        (["{first}", "rows=many"], "rows=many"),
        (["{first}", "by=colour"], "by=colour"),
        (["{first}", "embedding=none_such"], "none_such"),
        (["{first}", "embedding=tfidf", "embedding.dim=0"], "embedding.dim=0"),
        (["{first}", "diversity=none"], "needs all the measures"),
        (["{first}", "{first}"], "given twice"),
        (["{first}", "n=500", *SMALL], "n=500: no set keeps that many rows"),
        (["by=task"], "nothing to compare"),
        (["{broken}", *SMALL], "line 1: malformed JSON"),
    ],
)
def test_bad_input_gets_one_sentence(corpora, tmp_path, capsys, arguments, message):
    (tmp_path / "broken.jsonl").write_text("{")
    places = {"first": corpora[0], "broken": str(tmp_path / "broken.jsonl")}
    given = [word.format(**places) if word.startswith("{") else word for word in arguments]
    assert main([*given, f"out={tmp_path / 'out'}", f"root={tmp_path}"]) == 1
    printed = capsys.readouterr().err.splitlines()
    errors = [line for line in printed if "error: " in line]
    assert len(errors) == 1
    assert message in errors[0]


def test_the_component_logs_the_companions_beside_the_distance():
    with initialize_config_dir(str(conf_dir()), version_base=None):
        measure = instantiate(
            compose(overrides=["+diversity=all", "diversity.log_det.reference_seeds=[1,2]"]).diversity,
            _convert_="all",
        )
    X = np.random.default_rng(0).normal(size=(25, 5)).astype(np.float32)
    pool, task = (
        np.random.default_rng(1).normal(size=(60, 5)).astype(np.float32),
        np.array(["a", "b"] * 12 + ["a"]),
    )
    numbers = json.loads(json.dumps(measure.measure(X, pool=pool, task=task), allow_nan=False))
    companions = {
        "vendi",
        "novelsum",
        "mean_distance",
        "knn_distance",
        "radius",
        "coverage",
        "cluster_entropy",
        "task_entropy",
    }
    assert companions < set(numbers)
    assert numbers["ldd"] == LogDetDistance(reference_seeds=(1, 2)).measure(X)["ldd"]
    # those need to know what X was chosen from
    assert companions - set(measure.measure(X)) == {"coverage", "task_entropy"}
    assert measure.measure(X[:0]) == {}
