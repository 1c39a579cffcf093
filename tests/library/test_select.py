"""The function that chooses from data at hand: the picks of a run, any kind of data, one sentence for what is
wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

import smartdpp
from smartdpp.errors import InputError
from smartdpp.library.data import read, texts
from smartdpp.library.select import GAIN, RANK, cache
from smartdpp.run.alone import prepared
from smartdpp.run.cell import Run
from smartdpp.run.pipeline import execute

TFIDF: dict[str, Any] = {"embedding": "tfidf", "embedding_options": {"dim": 16}}
WHOLE = [  # a run that holds nothing out and drops nothing
    *(
        "corpus=jsonl",
        "embedding=tfidf",
        "embedding@probe=tfidf",
        "model=tiny",
        "evaluation=none",
        "tracker=none",
    ),
    *("diversity=none", "budget=16", "pool.max_tokens=2000", "until=mixture"),
]


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def run_of(corpus: Path, root: Path, *overrides: str) -> Run:
    return prepared([*WHOLE, f"corpus.path={corpus}", f"root={root}", *overrides])


@pytest.fixture
def records(corpus: Path) -> list[dict]:
    return [{**row, "note": {"line": i}} for i, row in enumerate(lines(corpus))]


TINY = {"model": "tiny"}
SAME = {
    "smart": ({}, []),
    "smart with options": (
        {"strategy_options": {"num_tasks": 3, "instances": "logdet", "instances.ridge": 0.5}},
        ["strategy.num_tasks=3", "function@strategy.instances=logdet", "strategy.instances.ridge=0.5"],
    ),
    "dpp, weighed": (
        {"strategy": "dpp", "strategy_options": {"theta": 0.3}, "quality": "response_tokens", **TINY},
        ["strategy=dpp", "strategy.theta=0.3", "quality=response_tokens"],
    ),
    "top": ({"strategy": "top", "quality": "perplexity", **TINY}, ["strategy=top", "quality=perplexity"]),
    "rated": (
        {"strategy": "top", "quality": "rated", "quality_options": {"prompts": ["How good is it?"]}, **TINY},
        ["strategy=top", "quality=rated", "quality.prompts=[How good is it?]"],
    ),
    "in gradients": (
        {"strategy": "dpp", "embedding": "gradient", "embedding_options": {"dim": 64}, **TINY},
        ["strategy=dpp", "embedding=gradient", "embedding.dim=64"],
    ),
    "random": ({"strategy": "random", "seed": 3}, ["strategy=random", "seed=3"]),
    "by clusters": ({"task": "cluster"}, ["corpus.task=cluster"]),
    "by so many clusters": (
        {"task": "cluster", "clusters": 3, "strategy": "equal"},
        ["corpus.task=cluster", "corpus.clusters=3", "strategy=equal"],
    ),
    "tasks by what the model makes of them": (
        {"task_vector": "task2vec", "task_vector_options": {"examples": 4}, **TINY},
        ["task_vector=task2vec", "task_vector.examples=4"],
    ),
    "of short rows": (
        {"strategy": "equal", "max_tokens": 60, **TINY},
        ["strategy=equal", "pool.max_tokens=60"],
    ),
    "targeted": (
        {"strategy": "targeted", "query": "FILE"},
        ["strategy=targeted", "query@strategy.query=file", "strategy.query.path=FILE"],
    ),
}


@pytest.mark.parametrize("which", list(SAME))
def test_the_picks_are_those_of_a_run_with_the_same_settings(
    which: str, corpus: Path, tmp_path: Path
) -> None:
    settings, overrides = SAME[which]
    wanted = tmp_path / "wanted.jsonl"
    asked = ["Please tell me: " + row["prompt"] for row in lines(corpus)[:3]]
    wanted.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in asked))
    base = [] if which == "in gradients" else ["embedding.dim=16"]
    run = run_of(corpus, tmp_path, *base, *[word.replace("FILE", str(wanted)) for word in overrides])
    execute(run)
    mixture = lines(run.mixture.path / "mixture.jsonl")
    settings = {**TFIDF, **settings} | ({"query": str(wanted)} if "query" in settings else {})
    chosen = smartdpp.select(str(corpus), 16, **settings)
    assert [row["prompt"] for row in chosen] == [row["prompt"] for row in mixture]
    assert [row[RANK] for row in chosen] == list(range(16))
    np.testing.assert_array_equal([row[GAIN] for row in chosen], [row["gain"] for row in mixture])
    assert smartdpp.select(str(corpus), 16, **settings) == chosen, "found in the cache"


def test_the_same_kind_comes_back_with_the_same_picks_and_untouched_records(
    records: list[dict], corpus: Path
) -> None:
    chosen = smartdpp.select(records, 8, **TFIDF)
    assert isinstance(chosen, list)
    stripped = [{key: value for key, value in row.items() if key not in (RANK, GAIN)} for row in chosen]
    assert all(row in records for row in stripped)
    assert RANK not in records[0], "what was given stays as it was"

    frame = pd.DataFrame(records, index=[f"r{i}" for i in range(len(records))])
    part = smartdpp.select(frame, 8, **TFIDF)
    assert isinstance(part, pd.DataFrame)
    assert list(part["prompt"]) == [row["prompt"] for row in chosen]
    assert part.drop(columns=[RANK, GAIN]).equals(frame.loc[part.index])

    data = Dataset.from_list(records)
    subset = smartdpp.select(data, 8, **TFIDF)
    assert isinstance(subset, Dataset)
    assert [{key: row[key] for key in records[0]} for row in subset] == stripped
    assert subset.features.items() >= data.features.items()
    assert [row["prompt"] for row in smartdpp.select(corpus, 8, **TFIDF)] == [row["prompt"] for row in chosen]
    assert [row[RANK] for row in smartdpp.select(chosen, 4, **TFIDF)] == list(range(4)), (
        "and may be chosen from again"
    )


def test_fields_of_other_names_are_recognised_and_the_task_is_the_field_that_is_named(
    records: list[dict],
) -> None:
    alpaca = [
        {"instruction": row["prompt"], "input": "", "output": row["response"], "kind": row["task"]}
        for row in records
    ]
    chosen = smartdpp.select(alpaca, 8, task="kind", **TFIDF)
    assert [row["instruction"] for row in chosen] == [
        row["prompt"] for row in smartdpp.select(records, 8, **TFIDF)
    ]
    chats = [
        {
            "messages": [
                {"role": "user", "content": row["prompt"]},
                {"role": "assistant", "content": row["response"]},
            ],
            "task": row["task"],
        }
        for row in records
    ]
    assert [row["messages"][0]["content"] for row in smartdpp.select(chats, 8, **TFIDF)] == [
        row["instruction"] for row in chosen
    ]
    names = sorted({row["task"] for row in records})
    features = Features(
        {"prompt": Value("string"), "response": Value("string"), "label": ClassLabel(names=names)}
    )
    data = Dataset.from_list(
        [
            {"prompt": row["prompt"], "response": row["response"], "label": names.index(row["task"])}
            for row in records
        ],
        features=features,
    )
    subset = smartdpp.select(data, 8, task="label", **TFIDF)
    assert [row["prompt"] for row in subset] == [row["instruction"] for row in chosen]
    assert subset.features["label"] == features["label"]


def test_rows_without_a_task_are_one_task_and_that_is_said(
    records: list[dict], caplog: pytest.LogCaptureFixture
) -> None:
    bare = [{"prompt": row["prompt"], "response": row["response"]} for row in records]
    assert len(smartdpp.select(bare, 8, **TFIDF)) == 8
    assert "no field says a row's task" in caplog.text
    caplog.clear()
    smartdpp.select(bare, 8, "dpp", **TFIDF)
    assert "task" not in caplog.text


def test_rows_that_say_nothing_are_counted_and_not_chosen(
    records: list[dict], caplog: pytest.LogCaptureFixture
) -> None:
    records[3]["response"], records[5]["prompt"] = " ", ""
    chosen = smartdpp.select(records, len(records) - 2, "random", **TFIDF)
    assert {row["note"]["line"] for row in chosen} == {*range(len(records))} - {3, 5}
    assert "2 of 120 rows have an empty prompt or response" in caplog.text
    frame = pd.DataFrame({"prompt": ["a", "b", None], "response": ["x", None, "z"]})
    with pytest.raises(InputError, match="row 1: the row has no response"):
        smartdpp.select(frame, 1, "random")


def test_vectors_of_your_own_take_the_place_of_an_embedding(records: list[dict]) -> None:
    X = np.random.default_rng(0).normal(size=(len(records), 5))
    chosen = smartdpp.select(records, 4, "dpp", X=X)
    again = smartdpp.select(records, 4, "dpp", X=X[::-1].copy())
    assert [row[GAIN] for row in chosen] != [row[GAIN] for row in again], "other vectors are other picks"
    near = smartdpp.select(records, 1, "targeted", X=X, query=X[7:8], strategy_options={"function": "gcmi"})
    assert near[0]["note"]["line"] == 7
    records[0]["response"] = ""
    assert (
        smartdpp.select(records, 1, "targeted", X=X, query=X[7:8], strategy_options={"function": "gcmi"})[0][
            "note"
        ]["line"]
        == 7
    )


def test_a_query_in_words_draws_what_is_like_it(records: list[dict]) -> None:
    chosen = smartdpp.select(records, 5, "targeted", query=["Is 12 even or odd?", "even or odd"], **TFIDF)
    assert {row["task"] for row in chosen} == {"parity"}


def test_answers_of_a_query_are_read_under_their_usual_names(tmp_path: Path) -> None:
    asked = [{"question": "6*7?", "answer": "42"}, {"prompt": "And then?"}]
    (tmp_path / "wanted.json").write_text(json.dumps(asked))
    for query in (asked, tmp_path / "wanted.json"):
        rows = texts(query, name="query")
        assert [(row["prompt"], row["response"]) for row in rows] == [("6*7?", "42"), ("And then?", "")]
    for record, said in (
        (
            {"prompt": "6*7?", "output": "42", "answer": "4"},
            "query: row 0: its response could be output or answer: call the one that is meant response.",
        ),
        (
            {"text": "6*7?"},
            "query: row 0: the row has no prompt; its fields are text. Call the one that holds it prompt.",
        ),
    ):
        with pytest.raises(InputError) as refused:
            texts([record], name="query")
        assert str(refused.value) == said, "columns= is the data's"


def test_calls_in_a_frame_read_from_parquet_are_read(tmp_path: Path) -> None:
    call = {"type": "function", "function": {"name": "add", "arguments": {"x": 1}}}
    turns = [
        {"role": "user", "content": "What is 1 plus 1, and 1 plus 1?", "tool_calls": None},
        {"role": "assistant", "content": "", "tool_calls": [call, call]},
    ]
    pq.write_table(pa.Table.from_pylist([{"messages": turns}]), tmp_path / "x.parquet")
    [row] = read(pd.read_parquet(tmp_path / "x.parquet")).rows
    assert json.loads(row["messages"])[1]["tool_calls"] == [call, call]


def test_several_targets_have_names_and_take_turns(records: list[dict]) -> None:
    wanted = {"even": ["Is 12 even or odd?"] * 3, "sums": ["What is 3 plus 4?"]}
    how = {"strategy_options": {"function": "max", "targets": "balanced"}, **TFIDF}
    chosen = smartdpp.select(records, 6, "targeted", query=wanted, **how)
    assert [row["task"] for row in chosen] == ["parity", "add"] * 3
    X = np.eye(3)[np.arange(len(records)) % 3]
    query = {"a": np.eye(3)[:1], "b": np.eye(3)[1:2]}
    how = {"strategy_options": {"function": "less"}, "X": X}
    near = smartdpp.select(records, 9, "targeted", query=query, **how)
    assert {row["note"]["line"] % 3 for row in near} == {0, 1}


def test_a_strategy_that_reads_texts_gets_them_with_vectors_of_your_own_too(records: list[dict]) -> None:
    X, query = np.ones((len(records), 2)), ["Is 12 even or odd?", "Is 7 even or odd?"]
    still = {"strategy_options": {"temperature": 0.0}}
    chosen = smartdpp.select(records, 5, "dsir", X=X, query=query, **still)
    assert {row["task"] for row in chosen} == {"parity"}
    assert chosen == smartdpp.select(records, 5, "dsir", query=query, **still, **TFIDF)
    other = smartdpp.select(records, 5, "dsir", X=X, query=["What is 3 plus 4?"], **still)
    assert {row["task"] for row in other} == {"add"}, "texts count in what is kept"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"strategy": "smrt"}, "strategy='smrt': there is no such strategy; did you mean smart?"),
        ({"embedding": "minilmm"}, "did you mean minilm?"),
        ({"budget": 500}, "budget=500: there are 120 rows to choose from; choose at most 120."),
        ({"budget": 0}, "budget=0: it must be a whole number"),
        ({"task": "tsk"}, "task='tsk': the rows have no such field; did you mean task?"),
        ({"columns": {"prompt": "question"}}, "prompt='question': the rows have no such field"),
        ({"columns": {"promt": "prompt"}}, "columns names promt, which rows do not have"),
        (
            {"X": np.zeros((3, 2))},
            r"X has shape (3, 2) and holds float64: it must be numbers of shape (120, d)",
        ),
        ({"X": np.full((120, 2), np.nan)}, "X is not finite in 120 of 120 rows"),
        ({"strategy": "targeted"}, "strategy='targeted' needs query="),
        ({"strategy": "dsir", "X": np.ones((120, 2)), "query": np.ones((1, 2))}, "which has no texts"),
        ({"strategy": "targeted", "query": {}}, "query names no target"),
        ({"strategy": "targeted", "query": {"a": []}}, "query is empty: give at least one"),
        ({"query": ["a"]}, "query= is of strategies with a target, as 'targeted'"),
        ({"strategy": "targeted", "query": "wanted.jsonl"}, "query='wanted.jsonl': there is no such file"),
        ({"strategy": "targeted", "query": np.zeros((1, 2))}, "query is an array, which goes with X="),
        ({"strategy": "targeted", "query": ["zzzz"]}, "hold no word that the embedding knows"),
        ({"strategy": "reselect"}, "trains between its rounds"),
        ({"strategy": "dpp", "task_vector": "task2vec"}, "task_vector= is of strategy='smart' alone"),
        ({"clusters": 4}, "clusters=4: it must be 2 or more, together with task='cluster'"),
        ({"task": "cluster", "data": [{"prompt": "one two", "response": "c"}] * 3}, "3 rows are too few for"),
        ({"max_tokens": 1}, "max_tokens=1"),
        ({"max_tokens": 2, "model": "tiny"}, "budget=8: there are 0 rows"),
        ({"data": []}, "what was given is empty"),
        ({"data": pd.DataFrame({"prompt": [], "response": []})}, "what was given is empty"),
        ({"data": ["text"]}, "row 0 is a str"),
        ({"data": 3}, "a int cannot be read; give a datasets.Dataset"),
        ({"data": "no/such.jsonl"}, "there is no file or folder no/such.jsonl"),
        (
            {"data": [{"text": "a"}]},
            "row 0: the row has no prompt and no response; its fields are text. Map other names with "
            "columns={'",
        ),
        (
            {"data": DatasetDict(train=Dataset.from_list([{"prompt": "a"}]))},
            "this dataset has the splits train: give one of them",
        ),
    ],
)
def test_what_is_wrong_is_one_sentence(change: dict, said: str, records: list[dict]) -> None:
    with pytest.raises(InputError) as refused:
        smartdpp.select(**{"data": records, "budget": 8, **TFIDF, **change})
    assert said in str(refused.value)
    assert "corpus." not in str(refused.value)


def test_what_is_kept_lies_in_the_users_cache_and_nowhere_else(
    records: list[dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SMARTDPP_CACHE", str(tmp_path / "cache"))
    chosen = smartdpp.select(records, 8, **TFIDF)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    made = sorted(cache().rglob("meta.json"))
    assert len(made) == 2, "vectors and picks"
    times = [path.stat().st_mtime_ns for path in made]
    assert smartdpp.select(records, 8, **TFIDF) == chosen
    assert [path.stat().st_mtime_ns for path in sorted(cache().rglob("meta.json"))] == times
    records[0]["prompt"] += " Now."
    smartdpp.select(records, 8, **TFIDF)
    assert len(list(cache().rglob("meta.json"))) == 4, "other content is other work"


def test_importing_the_package_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import time; began = time.process_time(); import smartdpp; took = time.process_time() - began; "
        "import sys; "
        "heavy = [name for name in ('torch', 'transformers', 'datasets', 'pandas', 'pyarrow', 'numpy', "
        "'hydra') if name in sys.modules]; "
        "assert {'select', 'measure', 'compare'} <= set(dir(smartdpp)); print(took, *heavy)"
    )
    took = []
    for _ in range(3):
        seconds, *heavy = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
        assert not heavy
        took.append(float(seconds))
    assert min(took) < 0.2
    with pytest.raises(AttributeError, match="has no attribute 'selekt'"):
        smartdpp.selekt  # noqa: B018


@pytest.mark.parametrize(
    ("settings", "overrides"),
    [
        (
            {"strategy": "smart", "budget_tokens": 500, "max_share": 0.4},
            ["strategy=smart", "budget=null", "budget_tokens=500", "max_share=0.4"],
        ),
        (
            {"strategy": "equal", "budget": 90, "weights": {"copy": 3}, "repeat": 2},
            ["strategy=equal", "budget=90", "weights={copy: 3}", "repeat=2"],
        ),
    ],
    ids=["tokens", "shares"],
)
def test_budgets_in_tokens_and_shares_are_those_of_a_run(
    settings: dict[str, Any], overrides: list[str], corpus: Path, tmp_path: Path
) -> None:
    run = run_of(corpus, tmp_path, "embedding.dim=16", "probe.dim=16", *overrides)
    execute(run)
    mixture = lines(run.mixture.here() / "mixture.jsonl")
    chosen = smartdpp.select(str(corpus), **settings, **TFIDF, **TINY)
    assert [row["prompt"] for row in chosen] == [row["prompt"] for row in mixture]


def test_files_of_a_folder_are_tasks_where_no_field_says_one(tmp_path: Path) -> None:
    for name in ("maths", "prose"):
        records = [{"prompt": f"{name} {i}?", "response": str(i)} for i in range(12)]
        (tmp_path / f"{name}.json").write_text(json.dumps(records))
    found = smartdpp.select(tmp_path, budget=8, strategy="equal", weights={"maths": 3}, **TFIDF)
    assert Counter(row["prompt"].split()[0] for row in found) == {"maths": 6, "prose": 2}


def test_what_is_chosen_is_added_to_what_is_there(corpus: Path, tmp_path: Path) -> None:
    dpp = {"strategy": "dpp", **TFIDF}
    first, both = (smartdpp.select(str(corpus), budget=n, **dpp) for n in (8, 16))
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in first))
    added = smartdpp.select(str(corpus), budget=8, start=tmp_path / "mine.jsonl", **dpp)
    assert [row["prompt"] for row in added] == [row["prompt"] for row in both[8:]]
    others = [{"prompt": row["prompt"] + " Say it.", "response": row["response"]} for row in first]
    (tmp_path / "others.jsonl").write_text("".join(json.dumps(row) + "\n" for row in others))
    beyond = smartdpp.select(str(corpus), budget=8, start=tmp_path / "others.jsonl", **dpp)
    prompts = [{row["prompt"] for row in of} for of in (first, added, beyond)]
    assert not prompts[0] & prompts[2], "rows that read like those outside the data are not chosen"
    X = np.random.default_rng(0).normal(size=(120, 4)).astype(np.float32)
    with pytest.raises(InputError, match="none of its 8 rows has the prompt and response of one"):
        smartdpp.select(str(corpus), budget=8, start=tmp_path / "others.jsonl", strategy="dpp", X=X)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"budget": 5, "budget_tokens": 50}, "budget=5 and budget_tokens=50: leave one of them out"),
        ({"budget_tokens": 0}, "it must be at least 1 token"),
        ({"budget_tokens": "many"}, "budget_tokens='many'"),
        ({"budget": 5, "weights": {"nope": 2}}, "weights: the pool has no task 'nope'"),
        ({"budget": 5, "max_share": 0.5, "strategy": "dpp_sample"}, "DppSample cannot follow it"),
        ({"budget": 5, "start": "nowhere.jsonl"}, "there is no such file or folder"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_asked_is_one_sentence(settings: dict[str, Any], said: str, corpus: Path) -> None:
    with pytest.raises(InputError, match=said):
        smartdpp.select(str(corpus), **settings, **TFIDF, **TINY)


def test_the_readmes_snippet_runs_as_it_stands(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    code = text.partition("## On data at hand")[2].partition("```python\n")[2].partition("```")[0]
    assert "smartdpp.select(dataset, budget=1000" in code
    dataset = Dataset.from_list(
        [{"source": f"s{i % 3}", "prompt": f"Is {i} {i * i}?", "response": "No."} for i in range(30)]
    )
    names: dict[str, Any] = {"dataset": dataset}
    exec(code.replace("budget=1000", "budget=9"), names)
    assert isinstance(names["chosen"], Dataset)
    assert len(names["chosen"]) == 9
