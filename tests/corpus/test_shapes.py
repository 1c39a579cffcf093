"""Records with two answers, with a label, with a tree of replies; rows without a task."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smartdpp.corpus.hub import Hub
from smartdpp.corpus.jsonl import Jsonl
from smartdpp.corpus.notes import noted, said
from smartdpp.errors import InputError

ASK, GOOD, BAD = (
    {"role": "user", "content": "q"},
    {"role": "assistant", "content": "good"},
    {"role": "assistant", "content": "bad"},
)


def jsonl(path, *records):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def reading(path, **parameters):
    with noted() as notes:
        found = list(Jsonl(str(path), **parameters).rows())
    return found, notes.facts()


def pairs(rows):
    return [(row["prompt"], row["response"]) for row in rows]


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "q", "chosen": "good", "rejected": "bad"},
        {"question": "q", "chosen": "good", "rejected": "bad"},
        {"instruction": "q", "input": "", "chosen": "good", "rejected": "bad"},
        {"prompt": [ASK], "chosen": [GOOD], "rejected": [BAD]},
        {"prompt": "q", "chosen": [GOOD], "rejected": [BAD]},
        {"prompt": "q", "chosen": [ASK, GOOD], "rejected": [ASK, BAD], "messages": [ASK, GOOD]},
        {"chosen": "\n\nHuman: q\n\nAssistant: good", "rejected": "\n\nHuman: q\n\nAssistant: bad"},
        {"conversations": [{"from": "human", "value": "q"}]}
        | {
            name: {"from": "gpt", "value": value} for name, value in (("chosen", "good"), ("rejected", "bad"))
        },
    ],
)
def test_of_two_answers_the_chosen_one_is_read(tmp_path, record):
    found, notes = reading(jsonl(tmp_path / "x.jsonl", record))
    assert pairs(found) == [("q", "good")]
    assert notes["read_otherwise"]["pairs of answers: the chosen one is read"] == 1
    assert notes["fields_not_read"]["rejected"] == 1


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "q", "completion": "good"},
        {"prompt": [ASK], "completion": [GOOD]},
        {"messages": [ASK, GOOD]},
    ],
)
def test_of_labelled_answers_the_good_ones_are_read(tmp_path, record):
    found, notes = reading(
        jsonl(tmp_path / "x.jsonl", record | {"label": True}, record | {"label": False}, record)
    )
    assert pairs(found) == [("q", "good")] * 2
    assert notes["read_otherwise"]["answers labelled false are left out"] == 1
    assert notes["rows_left_out"] == {}


def test_a_label_that_is_no_judgement_is_a_field_like_others(tmp_path):
    records = [
        {"prompt": "q", "completion": "r", "label": "no"},
        {"prompt": "q", "response": "r", "label": False},
    ]
    found, notes = reading(jsonl(tmp_path / "x.jsonl", *records))
    assert (len(found), notes["fields_not_read"]) == (2, {"label": 2})


def reply(text, *replies, role="assistant", **fields):
    return {"text": text, "role": role, "replies": list(replies)} | fields


TREE = reply(
    "q",
    reply("worse", rank=1),
    reply(
        "good",
        reply("and?", reply("that is all", rank=0), role="prompter"),
        reply("unanswered", role="prompter"),
        rank=0,
    ),
    reply("gone", rank=-1, deleted=True),
    role="prompter",
    message_id="m0",
)


@pytest.mark.parametrize("form", ["the root", "as exported", "one message a row"])
def test_of_a_tree_of_replies_the_best_ranked_path_is_read(tmp_path, form):
    def flat(message, above, name):
        fields = {key: value for key, value in message.items() if key != "replies"}
        inside = [
            row for i, reply in enumerate(message["replies"]) for row in flat(reply, name, f"{name}{i}")
        ]
        # children first
        return [*inside, fields | {"message_id": name, "parent_id": above, "message_tree_id": "m0"}]

    records = {
        "the root": [TREE],
        "as exported": [{"message_tree_id": "m0", "tree_state": "ready_for_export", "prompt": TREE}],
        "one message a row": flat(TREE, None, "m0"),
    }[form]
    [row], notes = reading(jsonl(tmp_path / "x.jsonl", *records))
    assert (row["id"], row["prompt"], row["response"]) == ("m0", "q\n\nand?", "good\n\nthat is all")
    assert [turn["role"] for turn in row["messages"]] == ["user", "assistant"] * 2
    assert notes["read_otherwise"]["trees of replies: the best-ranked path of each is its conversation"] == 1


@pytest.mark.parametrize(
    ("ranks", "best"),
    [
        (["1", 0], 1),
        (["0", 1], 0),
        (["10", "9"], 1),
        ([0.5, "0"], 1),
        (["best", 1], 1),
        ([[0], 3], 1),
        ([{}, None], 0),
        ([float("nan"), 2], 1),
        ([10**400, 2], 1),
    ],
)
def test_ranks_are_numbers_or_none(tmp_path, ranks, best):
    tree = reply("q", *[reply(f"a{i}", rank=rank) for i, rank in enumerate(ranks)], role="prompter")
    [row], _ = reading(jsonl(tmp_path / "x.jsonl", tree))
    assert row["response"] == f"a{best}"


def test_replies_that_are_no_list_are_none(tmp_path):
    tree = reply("q", reply("a") | {"replies": 5}, role="prompter")
    assert pairs(reading(jsonl(tmp_path / "x.jsonl", tree))[0]) == [("q", "a")]


def test_messages_are_found_whatever_their_ids_are(tmp_path):
    def tree(one, two, above):
        ask = {"message_id": one, "parent_id": None, "text": "q", "role": "prompter"}
        return ask, {"message_id": two, "parent_id": above, "text": "a", "role": "assistant"}

    path = tmp_path / "x.jsonl"
    assert pairs(reading(jsonl(path, *tree("m", ["n"], "m")))[0]) == [("q", "a")]
    ask, answer = tree("m", "n", "m")
    nan = float("nan")
    assert pairs(reading(jsonl(path, ask | {"parent_id": nan}, answer))[0]) == [("q", "a")], (
        "as pandas has it"
    )
    both = [*tree({"i": 1}, {"i": 2}, {"i": 1}), ask, answer]
    with pytest.raises(InputError, match=r"line 1: id must be text, found dict"):
        reading(jsonl(path, *both))
    found, _ = reading(jsonl(path, *both), on_bad_row="drop", max_bad_share=0.5)
    assert [row["id"] for row in found] == ["m"]
    lost = answer | {"message_id": "o", "parent_id": ["gone"]}
    found, notes = reading(jsonl(path, ask, answer, lost))
    assert len(found) == 1
    assert notes["read_otherwise"]["replies to a message that the file does not hold are left out"] == 1


def test_trees_without_an_answer_and_replies_to_nothing_are_counted(tmp_path):
    lonely = {"message_id": "a", "parent_id": None, "text": "hello?", "role": "prompter"}
    lost = {"message_id": "b", "parent_id": "x", "text": "hm", "role": "assistant"}
    answered = [lonely | {"message_id": "c"}, lost | {"message_id": "d", "parent_id": "c", "text": "yes"}]
    found, notes = reading(jsonl(tmp_path / "x.jsonl", lonely, lost, *answered))
    assert pairs(found) == [("hello?", "yes")]
    assert notes["read_otherwise"]["trees without an answer are left out"] == 1
    assert notes["read_otherwise"]["replies to a message that the file does not hold are left out"] == 1
    with pytest.raises(InputError, match=r"line 2: the message_id 'a' comes twice: .*line 1"):
        reading(jsonl(tmp_path / "x.jsonl", lonely, lonely))


def test_rows_without_a_task_are_a_task_by_their_files_name(tmp_path):
    row = {"prompt": "p", "response": "r"}
    for name in ("code.jsonl", "math.jsonl", "a/more.jsonl", "b/more.jsonl"):
        jsonl(tmp_path / name, row)
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "chat-00000-of-00002.parquet")
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "chat-00001-of-00002.parquet")
    jsonl(tmp_path / "own.jsonl", row | {"task": "t"})
    found, notes = reading(tmp_path)
    assert [row["task"] for row in found] == ["a/more", "b/more", "chat", "chat", "code", "math", "t"]
    assert "1 row: without a task: one task, called code" in said(notes)
    assert {row["task"] for row in Hub(str(tmp_path / "code.jsonl")).rows()} == {tmp_path.name}
    with pytest.raises(InputError, match=r"own.jsonl, line 2: the row has no task"):
        reading(jsonl(tmp_path / "own.jsonl", row | {"task": "t"}, row))


def test_a_field_that_names_the_task(tmp_path):
    path = jsonl(tmp_path / "x.jsonl", {"prompt": "p", "response": "r", "kind": "k"})
    assert reading(path, task="kind")[0] == reading(path, columns={"task": "kind"})[0]
    with pytest.raises(
        InputError, match=r"line 1: the row has no task; its fields are prompt, response, kind"
    ):
        reading(path, task="topic")
    with pytest.raises(InputError, match=r"corpus\.task says what the task is, and corpus.columns or"):
        Jsonl(str(path), task="kind", columns={"task": "kind"})


THEMES = (
    "add the numbers {} and {}",
    "translate word {} and word {} into French",
    "write a poem on sea {} or on hill {}",
)


@pytest.fixture
def unlabelled(tmp_path):
    records = [{"prompt": THEMES[i % 3].format(i, i * 7), "response": f"r{i}"} for i in range(90)]
    return jsonl(tmp_path / "x.jsonl", *records)


def test_clusters_of_prompts_are_tasks_where_the_rows_name_none(unlabelled):
    found, notes = reading(unlabelled, task="cluster", clusters=3)
    assert [row["task"] for row in found] == [found[i % 3]["task"] for i in range(90)]
    assert len({row["task"] for row in found}) == 3
    assert {"french", "translate"} & set(found[1]["task"].split())
    assert notes["read_otherwise"]["in one of 3 clusters of prompts (given), which is its task"] == 90
    again, _ = reading(unlabelled, task="cluster", clusters=3)
    assert again == found
    assert [row["id"] for row in found] == [row["id"] for row in reading(unlabelled)[0]], (
        "ids do not depend on clusters"
    )
    other, _ = reading(unlabelled, task="cluster", clusters=6, cluster_seed=1)
    assert len({row["task"] for row in other}) > 3


def test_the_number_of_clusters_is_chosen_where_none_is_given(unlabelled):
    found, _ = reading(unlabelled, task="cluster")
    names = {row["task"] for row in found}
    assert 2 <= len(names) <= 18
    assert all(len({row["prompt"].split()[0] for row in found if row["task"] == name}) == 1 for name in names)


def test_what_cannot_be_clustered_is_said(tmp_path, unlabelled):
    for parameters in ({"clusters": 3}, {"clusters": 1, "task": "cluster"}):
        with pytest.raises(
            InputError, match=r"corpus.clusters is .: choose 2 or more, together with corpus.task=cluster"
        ):
            Jsonl(str(unlabelled), **parameters)
    few = jsonl(tmp_path / "few.jsonl", *[{"prompt": f"word {i}", "response": "r"} for i in range(5)])
    with pytest.raises(InputError, match="5 rows are too few for several clusters"):
        reading(few, task="cluster")
    with pytest.raises(InputError, match="the prompts hold no words"):
        reading(jsonl(tmp_path / "signs.jsonl", *[{"prompt": "? !", "response": "r"}] * 20), task="cluster")


def test_a_pool_without_tasks_is_chosen_from_trained_on_and_reported(small_run, unlabelled, tmp_path):
    from smartdpp.report import main as report
    from smartdpp.run.pipeline import execute

    lines = unlabelled.read_text() + '{"prompt": "add nothing", "response": null}\n'
    picture = {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, GOOD]}
    unlabelled.write_text(lines + json.dumps(picture) + "\n")
    options = ["corpus.task=cluster", "corpus.clusters=3", "corpus.cluster_seed=1", "corpus.on_bad_row=drop"]
    options += ["corpus.max_bad_share=0.02", "corpus.media=drop", f"corpus.path={unlabelled}"]
    options += ["evaluation.tasks=null", "evaluation.num_tasks=1", "strategy.num_tasks=2"]
    execute(small_run(*options, "until=plan"))
    run = small_run(*options)
    execute(run)
    facts = run.corpus.meta()["facts"]
    assert (facts["n_tasks"], facts["n_heldout_tasks"], facts["n_pool"] + facts["n_heldout"]) == (2, 1, 90)
    assert (
        facts["reading"]["read_otherwise"]["in one of 3 clusters of prompts (given), which is its task"] == 90
    )
    dropped = json.loads((run.corpus.path / "dropped.json").read_text())["reading"]["rows_left_out"]
    assert {reason: counted["rows"] for reason, counted in dropped.items()} == {
        "with images, audio or files beside text": 1,
        "without response": 1,
    }
    assert report([str(run.path), "--out", str(tmp_path / "report")]) == 0
    with pytest.raises(InputError, match=r"1 of 92 rows \(1.1%\) cannot be read"):
        execute(small_run(*options, "corpus.max_bad_share=0.01"))


def test_how_rows_are_read_is_no_part_of_a_run_at_its_defaults(small_run, corpus):
    usual = [
        "corpus.max_bad_share=0.01",
        "corpus.media=refuse",
        "corpus.task=null",
        "corpus.clusters=null",
        "corpus.cluster_seed=0",
    ]
    assert small_run(*usual).slug == small_run().slug
    assert small_run("corpus.media=drop").slug != small_run().slug
