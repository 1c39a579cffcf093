import json
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smartdpp.corpus import build as stage
from smartdpp.corpus.build import Limits, build, read, take
from smartdpp.errors import InputError


@dataclass
class Rows:
    """A corpus in memory."""

    given: list

    def rows(self):
        for i, (task, prompt, response) in enumerate(self.given):
            yield {
                "id": f"{task}/{i}",
                "task": task,
                "prompt": prompt,
                "response": response,
                "choices": ["a", "b"] if i == 0 else None,
            }


@dataclass
class Heldout:
    tasks: list = field(default_factory=list)
    extra: list = field(default_factory=list)

    def heldout(self, tasks):
        return [task for task in self.tasks if task in tasks]

    def aside(self, rows):
        return {}

    def documents(self):
        yield from self.extra


def say(n, word="w"):
    return " ".join([word] * n)


@pytest.fixture
def run(tmp_path, word_tokenizer):
    def run(rows, heldout=(), extra=(), **limits):
        summary = build(
            Rows(rows),
            Heldout(list(heldout), list(extra)),
            word_tokenizer,
            "plain",
            Limits(**limits),
            tmp_path / "out",
        )
        return summary, tmp_path / "out"

    return run


def table(out, name="data"):
    return read(out / f"{name}.parquet").to_pylist()


def lines(out):
    return [json.loads(line) for line in (out / "overlap.jsonl").read_text(encoding="utf-8").splitlines()]


def test_pool_and_held_out_tasks_are_parted_and_in_order(run):
    rows = [(task, f"{task} {i}", "yes") for i in range(3) for task in ("a", "b", "c")]
    summary, out = run(rows, heldout=["b"])
    assert [row["prompt"] for row in table(out)] == [prompt for task, prompt, _ in rows if task != "b"]
    assert [row["prompt"] for row in table(out, "heldout")] == ["b 0", "b 1", "b 2"]
    assert (summary["n_pool"], summary["n_heldout"], summary["n_tasks"], summary["total_read"]) == (
        6,
        3,
        2,
        9,
    )
    assert table(out)[0]["choices"] == ["a", "b"]
    assert {path.name for path in out.iterdir()} == {
        "data.parquet",
        "heldout.parquet",
        "dropped.json",
        "overlap.jsonl",
    }


def test_length_counts_prompt_response_and_end_and_the_limit_itself_is_allowed(run):
    _, out = run([("t", say(6), say(3)), ("t", say(6), say(4)), ("t", say(1), say(1))], max_tokens=10)
    assert [(row["n_prompt_tokens"], row["n_tokens"]) for row in table(out)] == [(6, 10), (1, 3)]


def test_every_drop_is_counted_by_reason_and_side(run):
    good = ("t", "p", "r")
    rows = [
        good,
        ("t", "  ", "r"),
        ("t", "p", "\n"),
        ("t", say(6), "r"),
        ("t", "p", say(20)),
        good,
        ("h", "p", "r"),
        ("h", "", "r"),
        ("gone", "p", ""),
    ]
    summary, out = run(rows, heldout=["h"], max_tokens=10, max_prompt_tokens=5, drop_duplicates=True)
    dropped = json.loads((out / "dropped.json").read_text())
    assert dropped["pool"] == {
        stage.EMPTY_PROMPT: 1,
        stage.EMPTY_RESPONSE: 2,
        stage.LONG_PROMPT: 1,
        stage.LONG: 1,
        stage.DUPLICATE: 1,
    }
    assert dropped["heldout"] == {stage.EMPTY_PROMPT: 1}
    assert dropped["examples"]["pool"][stage.EMPTY_RESPONSE] == ["t/2", "gone/8"]
    assert dropped["lost_tasks"] == summary["lost_tasks"] == ["gone"]
    assert summary["n_pool"] + summary["n_heldout"] + sum(dropped["pool"].values()) + sum(
        dropped["heldout"].values()
    ) == len(rows)


def test_duplicates_stay_unless_asked_and_count_within_a_task(run):
    rows = [("a", "p", "r"), ("a", "p", "r"), ("b", "p", "r"), ("a", "p", "q")]
    assert run(rows)[0]["n_pool"] == 4
    assert run(rows, drop_duplicates=True)[0]["n_pool"] == 3


def test_a_pool_larger_than_a_row_group_keeps_order_and_rows(run, monkeypatch):
    monkeypatch.setattr(stage, "ROW_GROUP", 7)
    rows = [("t" if i % 3 else "h", f"number {i}", "r") for i in range(50)]
    _, out = run(rows, heldout=["h"])
    assert [row["prompt"] for row in table(out)] == [prompt for task, prompt, _ in rows if task == "t"]
    assert [row["prompt"] for row in table(out, "heldout")] == [
        prompt for task, prompt, _ in rows if task == "h"
    ]


LEAK = "one two three four five six seven eight nine"


def test_rows_are_taken_from_all_row_groups_in_the_order_asked_for(tmp_path):
    pq.write_table(
        pa.table({"id": [str(i) for i in range(10)], "n": range(10)}),
        tmp_path / "rows.parquet",
        row_group_size=3,
    )
    for index in ([9, 0, 4, 3, 5], [7], []):
        assert take(tmp_path / "rows.parquet", np.array(index, dtype=np.int64))["n"].to_pylist() == index
    assert read(tmp_path / "rows.parquet", without=("id",)).column_names == ["n"]


def test_overlap_is_listed_with_its_text_and_dropped_only_when_asked(run):
    rows = [("a", f"please {LEAK}", "r"), ("a", "nothing in common", "r"), ("h", LEAK, "r")]
    extra = [{"id": "file/0", "task": "file", "prompt": f"{LEAK} ten"}]
    summary, out = run(rows, heldout=["h"], extra=extra)
    assert summary["overlap"] == {
        "documents": 2,
        "pairs": 2,
        "pairs_not_listed": 0,
        "pool_rows": 1,
        "boilerplate_pool_rows": 0,
    }
    assert [(line["id"], line["heldout_id"], line["text"]) for line in lines(out)] == [
        ("a/0", "h/2", LEAK),
        ("a/0", "file/0", LEAK),
    ]
    assert summary["n_pool"] == 2

    summary, out = run(rows, heldout=["h"], extra=extra, drop_overlap=True)
    assert [row["id"] for row in table(out)] == ["a/1"]
    assert summary["dropped"]["pool"] == {stage.OVERLAP: 1}
    assert len(lines(out)) == 2


def test_boilerplate_is_listed_once_and_never_dropped(run):
    rows = [(task, f"{LEAK}: {word}", "r") for task in "ah" for word in ("x", "y", "z")]
    rows = [(task, prompt + f" {task}", response) for task, prompt, response in rows]
    summary, out = run(rows, heldout=["h"], drop_overlap=True)
    assert summary["n_pool"] == 3
    assert summary["overlap"]["boilerplate_pool_rows"] == 3
    assert lines(out) == [
        {
            "id": "a/0",
            "task": "a",
            "heldout_id": None,
            "heldout_task": "h",
            "text": LEAK,
            "boilerplate": True,
            "pool_rows": 3,
        }
    ]


def test_pairs_beyond_the_cap_are_counted_and_said(run, capsys):
    extra = [{"id": f"d{i}", "task": f"task {i}", "prompt": LEAK} for i in range(25)]
    summary, out = run([("a", LEAK, "r")], extra=extra)
    assert len(lines(out)) == 20
    assert summary["overlap"]["pairs"] == 25
    assert summary["overlap"]["pairs_not_listed"] == 5
    assert "5 more are only counted" in capsys.readouterr().out


def test_an_empty_pool_says_why(run):
    with pytest.raises(
        InputError,
        match=r"The pool is empty: of 3 rows read none is left \(1 empty prompt, 2 prompt and "
        r"response longer",
    ):
        run([("t", say(30), "r"), ("t", say(30), "r"), ("t", " ", "r")], max_tokens=10)
    with pytest.raises(InputError, match="every task is held out"):
        run([("h", "p", "r")], heldout=["h"])
    with pytest.raises(InputError, match="The corpus has no rows"):
        run([])


def test_a_held_out_task_that_the_filter_empties_is_an_error(run):
    with pytest.raises(
        InputError,
        match=r"No row of the held-out task h passed the filter \(1 prompt and response longer "
        r"than max_tokens",
    ):
        run([("t", "p", "r"), ("h", say(30), "r")], heldout=["h"], max_tokens=10)


def test_text_stays_literal_and_a_special_token_in_it_is_ordinary_text(run, word_tokenizer):
    nasty = "{{ 7*7 }} ${oc.env:HOME} <|im_start|> {0} %s \r\n \u2028 é 😀 "
    _, out = run([("t", nasty, nasty)])
    [row] = table(out)
    assert row["prompt"] == row["response"] == nasty
    assert row["n_tokens"] == 2 * len(nasty.split()) + 1


@pytest.mark.parametrize(
    "wrong", [{"max_tokens": 1}, {"max_prompt_tokens": 256}, {"max_prompt_tokens": 0}, {"overlap_ngram": 0}]
)
def test_limits_out_of_range(wrong):
    with pytest.raises(InputError, match=f"pool.{next(iter(wrong))}"):
        Limits(**wrong)
