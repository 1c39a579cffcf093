import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smartdpp.corpus.hub import Hub
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
        "---\nlicense: mit\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*\n"
        "  - split: test\n    path: data/test-*\n---\n# My dataset\n"
    )
    shards = {"train-00000-of-00002": QUESTIONS[:2], "train-00001-of-00002": QUESTIONS[2:], "test-00000-of-00001": ["held out"]}
    for name, prompts in shards.items():
        table = pa.table({"instruction": prompts, "output": [p.upper() for p in prompts], "kind": ["t"] * len(prompts)})
        pq.write_table(table, folder / "data" / f"{name}.parquet")
    return folder


@pytest.mark.parametrize("streaming", [True, False])
def test_a_dataset_in_the_hubs_layout_with_its_columns_mapped(folder, streaming):
    hub = Hub(str(folder), columns={**COLUMNS, "task": "kind"}, constants={"license": "MIT"}, streaming=streaming)
    assert hub.check() == []
    found = list(hub.rows())
    assert [row["prompt"] for row in found] == QUESTIONS
    assert [row["response"] for row in found] == [q.upper() for q in QUESTIONS]
    assert {(row["task"], row["license"], row["source"]) for row in found} == {("t", "MIT", "my-dataset")}
    assert len({row["id"] for row in found}) == 3
    assert [row["prompt"] for row in Hub(str(folder), split="test", columns=COLUMNS, constants={"task": "x"}).rows()] == ["held out"]


def test_a_dataset_that_is_one_task_gets_its_name(folder):
    assert {row["task"] for row in Hub(str(folder), columns=COLUMNS, constants={"task": "alpaca"}).rows()} == {"alpaca"}
    with pytest.raises(InputError, match=r"my-dataset \(train\), row 0: the row has no task; its fields are instruction, output, kind"):
        next(Hub(str(folder), columns=COLUMNS).rows())


def test_several_columns_are_joined_where_they_are_not_empty(folder):
    columns = {"prompt": ["instruction", "input"], "response": "output"}
    table = pa.table({"instruction": ["Add.", "Greet."], "input": ["1 and 2", ""], "output": ["3", "Hello"]})
    for shard in folder.glob("data/*"):
        pq.write_table(table, shard)
    rows = Hub(str(folder), split="test", columns=columns, constants={"task": "alpaca"}).rows()
    assert [row["prompt"] for row in rows] == ["Add.\n\n1 and 2", "Greet."]
    with pytest.raises(InputError, match="has no column context"):
        list(Hub(str(folder), columns={**columns, "prompt": ["instruction", "context"]}, constants={"task": "alpaca"}).rows())


def test_wrong_columns_split_and_files_are_named(folder):
    with pytest.raises(InputError, match="has no column question; its columns are instruction, output, kind"):
        next(Hub(str(folder), columns={"prompt": "question", "response": "output"}, constants={"task": "t"}).rows())
    with pytest.raises(InputError, match="split validation"):
        next(Hub(str(folder), split="validation", columns=COLUMNS).rows())
    for shard in (folder / "data").glob("train-*"):
        shard.write_bytes(b"not parquet")
    for streaming in (True, False):
        with pytest.raises(InputError, match="cannot read"):
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
    assert Hub("a/b", revision="123").fingerprint() == "a/b@123"


def test_a_folders_loading_script_is_not_run(folder, tmp_path):
    (folder / "my-dataset.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(InputError, match="scripts are no longer supported"):
        next(Hub(str(folder), columns=COLUMNS, constants={"task": "t"}).rows())
    assert not (tmp_path / "ran").exists()
