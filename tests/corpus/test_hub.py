import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smartdpp.corpus.hub import Hub
from smartdpp.corpus.jsonl import Jsonl
from smartdpp.errors import InputError

COLUMNS = {"prompt": "instruction", "response": "output"}
QUESTIONS = ["one", "two {{ 7*7 }} ${oc.env:HOME}", "three"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A dataset as the hub lays it out: parquet shards under data/, and a card with a YAML head."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "my-dataset"
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text(
        "---\nlicense: mit\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: "
        "data/train-*\n"
        "  - split: test\n    path: data/test-*\n---\n# My dataset\n"
    )
    shards = {
        "train-00000-of-00002": QUESTIONS[:2],
        "train-00001-of-00002": QUESTIONS[2:],
        "test-00000-of-00001": ["held out"],
    }
    for name, prompts in shards.items():
        table = pa.table(
            {"instruction": prompts, "output": [p.upper() for p in prompts], "kind": ["t"] * len(prompts)}
        )
        pq.write_table(table, folder / "data" / f"{name}.parquet")
    return folder


@pytest.mark.parametrize("streaming", [True, False])
def test_a_dataset_in_the_hubs_layout_with_its_columns_mapped(folder, streaming):
    hub = Hub(
        str(folder), columns={**COLUMNS, "task": "kind"}, constants={"license": "MIT"}, streaming=streaming
    )
    assert hub.check() == []
    found = list(hub.rows())
    assert [row["prompt"] for row in found] == QUESTIONS
    assert [row["response"] for row in found] == [q.upper() for q in QUESTIONS]
    assert {(row["task"], row["license"], row["source"]) for row in found} == {("t", "MIT", "my-dataset")}
    assert len({row["id"] for row in found}) == 3
    assert [
        row["prompt"]
        for row in Hub(str(folder), split="test", columns=COLUMNS, constants={"task": "x"}).rows()
    ] == ["held out"]


def test_a_dataset_that_is_one_task_gets_its_name(folder):
    assert {
        row["task"] for row in Hub(str(folder), columns=COLUMNS, constants={"task": "alpaca"}).rows()
    } == {"alpaca"}
    assert {row["task"] for row in Hub(str(folder), columns=COLUMNS).rows()} == {"my-dataset"}


def test_several_columns_are_joined_where_they_are_not_empty(folder):
    columns = {"prompt": ["instruction", "input"], "response": "output"}
    table = pa.table({"instruction": ["Add.", "Greet."], "input": ["1 and 2", ""], "output": ["3", "Hello"]})
    for shard in folder.glob("data/*"):
        pq.write_table(table, shard)
    rows = Hub(str(folder), split="test", columns=columns, constants={"task": "alpaca"}).rows()
    assert [row["prompt"] for row in rows] == ["Add.\n\n1 and 2", "Greet."]
    with pytest.raises(InputError, match="has no column context"):
        list(
            Hub(
                str(folder),
                columns={**columns, "prompt": ["instruction", "context"]},
                constants={"task": "alpaca"},
            ).rows()
        )


def test_wrong_columns_split_and_files_are_named(folder):
    with pytest.raises(InputError, match="has no column question; its columns are instruction, output, kind"):
        next(
            Hub(
                str(folder), columns={"prompt": "question", "response": "output"}, constants={"task": "t"}
            ).rows()
        )
    with pytest.raises(InputError, match="split validation"):
        next(Hub(str(folder), split="validation", columns=COLUMNS).rows())
    for shard in (folder / "data").glob("train-*"):
        shard.write_bytes(b"not parquet")
    for streaming in (True, False):
        with pytest.raises(InputError, match=r"train-00000-of-00002.parquet: cannot be read as parquet"):
            next(Hub(str(folder), columns=COLUMNS, constants={"task": "t"}, streaming=streaming).rows())


def test_check_finds_what_needs_no_work(folder, tmp_path):
    assert Hub("tatsu-lab/alpaca").check() == []
    assert "neither a folder here nor a dataset's name" in Hub(str(tmp_path / "missing")).check()[0]
    assert "means nothing for the local folder" in Hub(str(folder), revision="main").check()[0]
    assert "must map prompt and response" in Hub(str(folder), columns={"prompt": "instruction"}).check()[0]
    (tmp_path / "empty").mkdir()
    assert "holds no file" in Hub(str(tmp_path / "empty")).check()[0]


def test_the_fingerprint_is_the_content_of_a_folder_and_the_revision_of_a_name(folder):
    before = Hub(str(folder)).fingerprint()
    assert Hub(str(folder)).fingerprint() == before
    next((folder / "data").glob("test-*")).unlink()
    assert Hub(str(folder)).fingerprint() != before
    assert Hub("a/b", revision="123", columns=COLUMNS).fingerprint() == "a/b@123"


def test_what_may_hold_conversations_is_another_corpus_than_when_they_were_pasted(folder):
    shard = next((folder / "data").glob("train-*"))
    before = Hub(str(folder), columns={"messages": "chat", "task": "kind"}).fingerprint()
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    pq.write_table(pa.table({"chat": [turns], "kind": ["t"]}), shard)
    assert "as turns" not in before
    assert Hub(str(folder), columns={"messages": "chat", "task": "kind"}).fingerprint().endswith("as turns")
    assert "as turns" not in Hub(str(folder), columns=COLUMNS).fingerprint()
    assert Hub("a/b", revision="1", columns={"messages": "chat"}).fingerprint() == "a/b@1 as turns"
    assert Hub("a/b", revision="1").fingerprint() == "a/b@1 as turns joined grown"


def test_of_a_name_on_the_hub_columns_say_what_may_be_read_otherwise_than_once():
    def marks(**parameters):
        return Hub("a/b", revision="1", **parameters).fingerprint().removeprefix("a/b@1")

    assert marks(columns=COLUMNS) == ""
    assert marks(columns=COLUMNS | {"prompt": ["instruction"]}) == ""
    assert marks(columns=COLUMNS | {"prompt": ["instruction", "input"]}) == " joined"
    assert marks(columns={"messages": ["chat", "turns"]}) == " as turns joined"
    assert marks(constants={"task": "t"}) == " as turns joined grown"
    assert marks(constants={"response": ""}) == " as turns joined recognised grown"
    assert marks(columns=COLUMNS, constants={"license": ""}) == ""


def messages_of_trees(n):
    for i in range(n):
        question = {"message_id": f"q{i}", "parent_id": None, "text": f"question {i}", "role": "prompter"}
        yield question
        yield question | {
            "message_id": f"a{i}",
            "parent_id": f"q{i}",
            "text": f"answer {i}",
            "role": "assistant",
        }


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_each_row_of_a_flat_tree_keeps_its_own_records(tmp_path, kind):
    path = tmp_path / "d" / f"train.{kind}"
    lines(tmp_path / "d" / "train.jsonl", *messages_of_trees(3))
    if kind == "parquet":
        (tmp_path / "d" / "train.jsonl").unlink()
        pq.write_table(pa.Table.from_pylist(list(messages_of_trees(3))), path)
    for hub in (Hub(str(path)), Hub(str(path.parent))):
        found = list(hub.originals())
        assert [(row["prompt"], row["response"]) for row in found] == [
            (f"question {i}", f"answer {i}") for i in range(3)
        ]
        assert [row["record"]["text"] for row in found] == [row["prompt"] for row in found]
        assert [reply["text"] for row in found for reply in row["record"]["replies"]] == [
            row["response"] for row in found
        ]
        assert hub.fingerprint().endswith(" grown")
    assert "grown" not in Jsonl(str(path)).fingerprint(), "which had each row's own"


def test_records_are_of_the_kind_that_their_files_are_taken_for(tmp_path):
    row = {"task": "t", "prompt": "p", "response": "r"}

    def kinds(**parameters):
        return {(row["kind"], row["types"] is not None) for row in Hub(**parameters).originals()}

    lines(tmp_path / "lines" / "train.jsonl", row)
    (tmp_path / "lines" / "test.json").write_text(json.dumps([row]))
    folder = str(tmp_path / "lines")
    assert kinds(path=folder) == kinds(path=f"{folder}/train.jsonl") == {("JSON lines", False)}
    assert kinds(path=folder, split="test[:1]") == {("a JSON array", False)}
    assert kinds(path=folder, split="train+test") == {("JSON lines", False)}, "which all can be"
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "train.csv").write_text("task,prompt,response\nt,p,r\n")
    assert kinds(path=str(tmp_path / "tables")) == {("CSV", False)}
    (tmp_path / "shards").mkdir()
    for name, more in (("train-0", {}), ("train-1", {}), ("test-0", {}), ("test-1", {"n": 1})):
        pq.write_table(pa.Table.from_pylist([row | more]), tmp_path / "shards" / f"{name}.parquet")
    assert kinds(path=str(tmp_path / "shards")) == {("parquet", True)}
    assert kinds(path=str(tmp_path / "shards"), split="test") == {("parquet", False)}, "their columns differ"


def test_a_folders_loading_script_is_not_run(folder, tmp_path):
    (folder / "my-dataset.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(InputError, match="scripts are no longer supported"):
        next(Hub(str(folder), columns=COLUMNS, constants={"task": "t"}).rows())
    assert not (tmp_path / "ran").exists()


def test_class_labels_are_names(tmp_path, monkeypatch):
    from datasets import ClassLabel, Dataset, Features, Value

    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    features = Features(
        task=ClassLabel(names=["add", "copy"]), prompt=Value("string"), response=Value("string")
    )
    table = {"task": [1, 0, 1], "prompt": ["a", "b", "c"], "response": ["x", "y", "z"]}
    (tmp_path / "d" / "data").mkdir(parents=True)
    Dataset.from_dict(table, features=features).to_parquet(str(tmp_path / "d" / "data" / "train-0.parquet"))
    for path in (tmp_path / "d", tmp_path / "d" / "data" / "train-0.parquet"):
        assert [row["task"] for row in Hub(str(path)).rows()] == ["copy", "add", "copy"]


def lines(path, *rows):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_columns_that_begin_with_nulls_or_are_in_one_file_alone(tmp_path):
    row = {"task": "t", "prompt": "p", "response": "2024-05-01"}
    lines(tmp_path / "d" / "train-0.jsonl", *[row | {"license": None}] * 3)
    lines(tmp_path / "d" / "train-1.jsonl", row | {"license": "cc"}, row | {"license": "mit", "extra": 1})
    found = list(Hub(str(tmp_path / "d")).rows())
    assert [row["license"] for row in found] == [None, None, None, "cc", "mit"]
    assert {row["response"] for row in found} == {"2024-05-01"}  # which a guess of types takes for a date


def test_cells_of_a_csv_are_text(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "train.csv").write_text("task,prompt,response\nt,p,0\nt,q,NA\nt,r,007\n")
    assert [row["response"] for row in Hub(str(tmp_path / "d")).rows()] == ["0", "NA", "007"]


def test_slices_and_sums_of_splits(tmp_path):
    for split, n in (("train", 10), ("test", 3)):
        lines(
            tmp_path / "d" / f"{split}.jsonl",
            *[{"task": "t", "prompt": f"{split} {i}", "response": "r"} for i in range(n)],
        )

    def prompts(split):
        return [row["prompt"] for row in Hub(str(tmp_path / "d"), split=split).rows()]

    assert prompts("train[:2]") == ["train 0", "train 1"]
    assert prompts("train[80%:]+test[-1:]") == ["train 8", "train 9", "test 2"]
    assert prompts("test+train[:1]") == ["test 0", "test 1", "test 2", "train 0"]
    with pytest.raises(InputError, match=r"corpus.split=train\[:x\]"):
        prompts("train[:x]")


def test_a_dataset_without_tasks_some_rows_of_which_cannot_be_read_is_a_corpus(small_run, tmp_path):
    from smartdpp.run.pipeline import execute

    def turns(content):
        return {"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": "a"}]}

    records = [turns(f"q{i}") for i in range(20)] + [{"messages": []}, turns([{"type": "image_url"}])]
    path = tmp_path / "chats" / "train.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    options = [
        "corpus=hub",
        f"corpus.path={path.parent}",
        "corpus.on_bad_row=drop",
        "corpus.max_bad_share=0.05",
        "corpus.media=drop",
    ]
    run = small_run(*options, "evaluation.tasks=null", "evaluation.num_tasks=1", "until=corpus")
    with pytest.raises(InputError, match="holds out every task of the corpus"):
        execute(run)
    with pytest.raises(
        InputError, match=r"1 of 22 rows \(4.5%\) cannot be read \(1 without an assistant turn\)"
    ):
        execute(small_run(*options, "corpus.max_bad_share=0.01", "until=corpus"))
