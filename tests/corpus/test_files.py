"""What people have, read as it stands: formats, names of fields, conversations, and what is said of the
rest."""

import bz2
import gzip
import json
import lzma
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smartdpp.corpus import files
from smartdpp.corpus.hub import Hub
from smartdpp.corpus.jsonl import Jsonl
from smartdpp.corpus.notes import noted, said
from smartdpp.errors import InputError

ROWS = [
    {"task": "t", "prompt": "one", "response": "NA"},
    {"task": "007", "prompt": "zwei\nZeilen", "response": "1.50"},
]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def plain(rows):
    return [{field: row[field] for field in ("task", "prompt", "response")} for row in rows]


def rows(path, **parameters):
    return list(Jsonl(path if isinstance(path, list) else str(path), **parameters).rows())


def reading(path, **parameters):
    with noted() as notes:
        found = rows(path, **parameters)
    return found, notes


def jsonl(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def packed_zst(content):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


def csv_of(delimiter):
    cells = [list(ROWS[0]), *([f'"{value}"' for value in row.values()] for row in ROWS)]
    return "\n".join(delimiter.join(line) for line in cells).encode() + b"\n"


WRITERS = {
    "x.jsonl": lambda path: path.write_bytes(LINES),
    "x.ndjson": lambda path: path.write_bytes(LINES),
    "lines.json": lambda path: path.write_bytes(LINES),
    "x.jsonl.gz": lambda path: path.write_bytes(gzip.compress(LINES)),
    "x.jsonl.bz2": lambda path: path.write_bytes(bz2.compress(LINES)),
    "x.jsonl.xz": lambda path: path.write_bytes(lzma.compress(LINES)),
    "x.jsonl.zst": lambda path: path.write_bytes(packed_zst(LINES)),
    "array.json": lambda path: path.write_text(json.dumps(ROWS, indent=2)),
    "array.json.gz": lambda path: path.write_bytes(gzip.compress(json.dumps(ROWS).encode())),
    "called.jsonl": lambda path: path.write_text(json.dumps(ROWS)),
    "wrapped.json": lambda path: path.write_text(json.dumps({"version": 1, "data": ROWS}, indent=1)),
    "x.csv": lambda path: path.write_bytes(csv_of(",")),
    "x.csv.gz": lambda path: path.write_bytes(gzip.compress(csv_of(","))),
    "x.tsv": lambda path: path.write_bytes(b"\xef\xbb\xbf" + csv_of("\t")),
    "x.parquet": lambda path: pq.write_table(pa.Table.from_pylist(ROWS), path),
    "x.feather": lambda path: pa.feather.write_feather(pa.Table.from_pylist(ROWS), str(path)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_holds_the_same_rows(tmp_path, name):
    import pyarrow.feather

    assert pyarrow.feather
    WRITERS[name](tmp_path / name)
    assert plain(rows(tmp_path / name)) == ROWS
    assert plain(rows(tmp_path)) == ROWS
    assert rows(tmp_path)[0]["source"] == name


def test_save_to_disk_one_split_of_it_and_a_dictionary_of_splits(tmp_path, monkeypatch):
    from datasets import Dataset, DatasetDict

    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    one, both = tmp_path / "one", tmp_path / "both"
    Dataset.from_list(ROWS).save_to_disk(str(one))
    DatasetDict({"train": Dataset.from_list(ROWS), "test": Dataset.from_list(ROWS[:1])}).save_to_disk(
        str(both)
    )
    assert plain(rows(one)) == plain(Hub(str(one)).rows()) == plain(rows(both / "train")) == ROWS
    assert plain(Hub(str(both), split="test").rows()) == ROWS[:1]
    assert "holds the splits train, test: name one, as corpus.path=" in Jsonl(str(both)).check()[0]
    with pytest.raises(InputError, match="no split validation; there are train, test"):
        list(Hub(str(both), split="validation").rows())


def test_several_files_a_glob_and_a_folder_of_all_kinds(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.jsonl", "b.csv", "c.parquet"):
        WRITERS[name.replace(name[0], "x", 1)](tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("no data")
    (tmp_path / "in" / "numbers.csv").write_text("epoch,loss\n1,2\n")
    (tmp_path / "in" / ".hidden.jsonl").write_text("broken")
    found, notes = reading(tmp_path / "in")
    assert plain(found) == 3 * ROWS
    assert notes.facts()["files"] == {"JSON lines": 1, "CSV": 1, "parquet": 1}
    assert set(notes.passed_over) == {"notes.txt", "numbers.csv", ".hidden.jsonl"}
    assert "passed over .hidden.jsonl, notes.txt, numbers.csv" in "; ".join(said(notes.facts()))
    assert plain(rows(f"{tmp_path}/in/[ab].*")) == 2 * ROWS
    several = [f"{tmp_path}/in/c.parquet", f"{tmp_path}/in/*.jsonl"]
    assert plain(rows(several)) == 2 * ROWS
    assert Jsonl(several).fingerprint() != Jsonl(several[:1]).fingerprint()
    assert "no file matches" in Jsonl(f"{tmp_path}/*.parquet").check()[0]
    assert "is an empty list" in Jsonl([]).check()[0]


def test_what_smartdpp_wrote_below_a_folder_is_not_read_as_its_corpus(tmp_path):
    WRITERS["x.jsonl"](tmp_path / "x.jsonl")
    before = [corpus(str(tmp_path)).fingerprint() for corpus in (Jsonl, Hub)]
    for folder in (
        "store/mixture/0123456789abcdef",
        "store/corpus/0123456789abcdef.partial",
        "runs/random-tfidf-b1-s0-01234567",
        "report",
    ):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "mixture.jsonl").write_bytes(LINES)
    (tmp_path / "report" / "report.html").touch()
    (tmp_path / "report" / "results.csv").touch()
    assert [corpus(str(tmp_path)).fingerprint() for corpus in (Jsonl, Hub)] == before
    assert len(rows(tmp_path)) == 2


@pytest.mark.parametrize("way", ["absolute", "relative", "a link"])
def test_what_smartdpp_wrote_is_no_row_of_a_dataset_however_its_folder_is_named(tmp_path, monkeypatch, way):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    data = tmp_path / "data"
    (data / "store" / "mixture" / "0123456789abcdef").mkdir(parents=True)
    for path in (data / "train.jsonl", data / "store" / "mixture" / "0123456789abcdef" / "train.jsonl"):
        path.write_bytes(LINES)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "linked").symlink_to(data)
    path = {"absolute": str(data), "relative": "data", "a link": str(tmp_path / "linked")}[way]
    assert plain(Hub(path).rows()) == ROWS


def test_a_linked_store_is_no_part_of_a_dataset(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_bytes(LINES)
    (tmp_path / "store" / "mixture" / "0123456789abcdef").mkdir(parents=True)
    (tmp_path / "store" / "mixture" / "0123456789abcdef" / "train.jsonl").write_bytes(LINES)
    (tmp_path / "data" / "store").symlink_to(tmp_path / "store")
    assert plain(Hub(str(tmp_path / "data")).rows()) == ROWS


@pytest.mark.parametrize(
    ("pattern", "store"), [("**/*.jsonl", "in/store/"), ("*", "store/"), ("in/**", "store/")]
)
def test_what_smartdpp_wrote_is_not_read_where_a_glob_matches_it(tmp_path, pattern, store):
    stored = tmp_path / "in" / "store" / "mixture" / "0123456789abcdef"
    stored.mkdir(parents=True)
    for folder in (tmp_path / "in", stored):
        WRITERS["x.jsonl"](folder / "x.jsonl")
    found, notes = reading(f"{tmp_path}/{pattern}")
    assert plain(found) == ROWS
    assert notes.passed_over == {store: "what smartdpp has stored"}
    assert plain(rows(f"{stored}/*.jsonl")) == ROWS  # a folder that is named is meant
    (tmp_path / "in" / "x.jsonl").unlink()
    with pytest.raises(
        InputError, match=r"all that matches .* is passed over \(store/: what smartdpp has stored\)"
    ):
        rows(f"{tmp_path}/in/*/**/*.jsonl")


def test_a_file_counts_once_for_a_glob_that_matches_its_folder_too(tmp_path):
    (tmp_path / "in").mkdir()
    WRITERS["x.jsonl"](tmp_path / "in" / "x.jsonl")
    assert plain(rows(f"{tmp_path}/**")) == ROWS
    (tmp_path / "runs").touch()  # no folder of ours
    with pytest.raises(InputError, match=r"corpus.path: .*run\* is empty"):
        rows(f"{tmp_path}/run*")


def test_a_file_that_two_names_lead_to_is_said_to_be_read_twice(tmp_path):
    WRITERS["x.jsonl"](tmp_path / "x.jsonl")
    (tmp_path / "y.jsonl").symlink_to(tmp_path / "x.jsonl")
    found, notes = reading(f"{tmp_path}/*.jsonl")
    assert len(found) == 4
    assert (
        "from files that corpus.path names twice, and that are read twice" in notes.facts()["read_otherwise"]
    )


def refused(*_, **__):
    raise PermissionError(13, "Permission denied", "there")


@pytest.mark.parametrize("bits", [0, 0o111, 0o444])
def test_a_folder_inside_that_may_not_be_read_is_noted(tmp_path, bits):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    WRITERS["x.jsonl"](tmp_path / "x.jsonl")
    for name in ("closed", "runs"):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(bits)
    found, notes = reading(tmp_path)
    assert plain(found) == ROWS
    assert all("Permission denied" in notes.passed_over[name] for name in ("closed/", "runs/"))
    with pytest.raises(InputError, match=r"corpus.path: .*closed.* cannot be read \(Permission denied\)"):
        rows(tmp_path / "closed")


def test_a_folder_whose_listing_is_refused_is_noted_and_as_the_corpus_itself_refused(tmp_path, monkeypatch):
    WRITERS["x.jsonl"](tmp_path / "x.jsonl")
    (tmp_path / "runs").mkdir()
    (tmp_path / "closed").mkdir()
    monkeypatch.setattr(Path, "iterdir", refused)
    listed = os.scandir

    def scandir(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found, notes = reading(tmp_path)
    assert plain(found) == ROWS
    assert notes.passed_over == dict.fromkeys(("closed/", "runs/"), "cannot be read (Permission denied)")
    found, notes = reading(f"{tmp_path}/**/*.jsonl")
    assert plain(found) == ROWS
    assert notes.passed_over == {"closed/": "cannot be read (Permission denied)"}
    with pytest.raises(InputError, match=r"corpus.path: .*closed cannot be read \(Permission denied\)"):
        rows(tmp_path / "closed")


def test_a_file_that_may_not_be_read_is_refused_before_any_work(tmp_path, monkeypatch):
    WRITERS["x.jsonl"](tmp_path / "x.jsonl")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "x.jsonl")
    for path in (tmp_path, tmp_path / "x.jsonl", f"{tmp_path}/*"):
        assert "x.jsonl may not be read by this user: change its permissions" in Jsonl(str(path)).check()[0]


def test_a_run_whose_root_is_its_corpus_folder_is_found_again(small_run, corpus, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_bytes(corpus.read_bytes())
    first = small_run(f"corpus.path={tmp_path}", "until=corpus")
    from smartdpp.run.pipeline import execute

    execute(first)
    again = small_run(f"corpus.path={tmp_path}", "until=corpus")
    assert again.slug == first.slug
    assert again.corpus.finished


@pytest.mark.parametrize(
    ("record", "prompt", "response"),
    [
        ({"instruction": "Add.", "input": "1, 2", "output": "3"}, "Add.\n\n1, 2", "3"),
        ({"instruction": "Greet.", "input": "", "output": "Hello"}, "Greet.", "Hello"),
        (
            {"instruction": "Who?", "context": "Ada wrote it.", "response": "Ada"},
            "Who?\n\nAda wrote it.",
            "Ada",
        ),
        ({"prompt": "p", "completion": "c"}, "p", "c"),
        ({"question": "q", "answer": "a"}, "q", "a"),
        ({"inputs": "i", "targets": "t"}, "i", "t"),
        ({"prompt": "p", "response": ["r"]}, "p", "r"),
        ({"prompt": "p", "response": 42}, "p", "42"),
        ({"conversations": [{"from": "human", "value": "h"}, {"from": "gpt", "value": "g"}]}, "h", "g"),
        ({"messages": [{"role": "User", "content": "h"}, {"role": "Assistant", "content": "g"}]}, "h", "g"),
        (
            {
                "messages": json.dumps(
                    [{"role": "user", "content": "h"}, {"role": "assistant", "content": "g"}]
                )
            },
            "h",
            "g",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "h"}]},
                    {"role": "assistant", "content": "g"},
                ]
            },
            "h",
            "g",
        ),
    ],
)
def test_names_that_common_datasets_use(tmp_path, record, prompt, response):
    [row] = rows(jsonl(tmp_path / "x.jsonl", record), constants={"task": "t"})
    assert (row["prompt"], row["response"], row["answer"]) == (prompt, response, None)


def test_numbers_and_choices(tmp_path):
    mc = {"task": 3, "prompt": "p", "response": "two", "choices": ["one", "two"]}
    arc = {**mc, "choices": {"text": ["one", "two"], "label": ["A", "B"]}, "answer": "B"}
    found, notes = reading(jsonl(tmp_path / "x.jsonl", {**mc, "answer": 1}, arc))
    assert [(row["task"], row["choices"], row["answer"]) for row in found] == [
        ("3", ["one", "two"], "1"),
        ("3", ["one", "two"], "two"),
    ]
    assert notes.counts["read_otherwise"]["task is a number, read as its digits"] == 2
    with pytest.raises(
        InputError, match=r"line 1: answer 1 is the text of choice 0, and the index of another"
    ):
        rows(jsonl(tmp_path / "x.jsonl", {**mc, "choices": ["1", "2"], "answer": 1}))


NAN = float("nan")
DIGITS = "prompt is a number, read as its digits"


@pytest.mark.parametrize("how", ["recognised", "mapped", "mapped alone"])
@pytest.mark.parametrize(
    ("parts", "prompt"),
    [
        (("Double the number", 5), "Double the number\n\n5"),
        (("Double the number", ["x"]), "Double the number\n\nx"),
        (("Double the number", NAN), "Double the number"),
        ((["Round it"], 0.5), "Round it\n\n0.5"),
        ((7, 5), "7\n\n5"),
        (("", 5), "5"),
        ((NAN, ["x"]), "x"),
        (("Greet", ""), "Greet"),
    ],
)
def test_each_of_the_fields_that_are_joined_is_text_by_the_same_rules(tmp_path, parts, prompt, how):
    path = jsonl(tmp_path / "x.jsonl", dict(zip(("instruction", "input"), parts, strict=True), output="10"))
    columns = {"prompt": ["instruction", "input"], "response": "output"}
    reads = {
        "recognised": Jsonl(str(path)),
        "mapped": Jsonl(str(path), columns),
        "mapped alone": Hub(str(path), columns=columns),
    }
    with noted() as notes:
        [row] = reads[how].rows()
    assert (row["prompt"], row["response"]) == (prompt, "10")
    counted = notes.counts["read_otherwise"].get(DIGITS, 0)
    assert counted == any(type(part) in (int, float) and part == part for part in parts)


@pytest.mark.parametrize(
    ("part", "message"),
    [(True, "found bool 'True'"), (["x", "y"], "found list"), ({"a": 1}, "found dict")],
)
def test_what_is_no_text_is_refused_also_where_it_is_joined(tmp_path, part, message):
    good = {"instruction": "Say", "input": "it", "output": "it"}
    path = jsonl(tmp_path / "x.jsonl", good, good | {"input": part})
    with pytest.raises(InputError, match=rf"line 2: prompt must be text, {message}"):
        rows(path)
    assert len(rows(path, on_bad_row="drop", max_bad_share=0.5)) == 1


def test_of_several_fields_that_cannot_be_joined_the_first_is_read_and_that_is_said(tmp_path):
    path = jsonl(tmp_path / "x.jsonl", {"a": TURNS, "b": TURNS[::-1], "s": 1, "t": 2}, {"b": TURNS, "t": 2})
    found, notes = reading(path, columns={"messages": ["a", "b"], "score": ["s", "t"]})
    assert [(row["prompt"], row["response"], row["score"]) for row in found] == [("q", "a", 1), ("q", "a", 2)]
    told = notes.counts["read_otherwise"]
    assert told["messages from the first of a and b, several of which are there"] == 1
    assert told["score from the first of s and t, several of which are there"] == 1


def test_a_corpus_whose_fields_are_joined_is_another_than_when_one_of_them_was_all(tmp_path):
    from smartdpp.corpus.rows import content_hash

    def joined(path, corpus=Jsonl, **parameters):
        marks = corpus(str(path), **parameters).fingerprint().removeprefix(content_hash(tmp_path, [path]))
        assert marks in ("", " joined")
        return bool(marks)

    alpaca = {"instruction": "Say", "input": "it", "output": "it"}
    both = {"prompt": ["instruction", "input"], "response": "output"}
    for corpus in (Jsonl, Hub):
        assert joined(jsonl(tmp_path / "x.jsonl", alpaca), corpus)
        assert joined(jsonl(tmp_path / "x.jsonl", alpaca | {"input": None}), corpus)
        assert joined(jsonl(tmp_path / "x.jsonl", alpaca), corpus, columns=both)
        assert not joined(jsonl(tmp_path / "x.jsonl", ROWS[0]), corpus)
        assert not joined(jsonl(tmp_path / "x.jsonl", {"instruction": "Say", "output": "it"}), corpus)
        one = {"prompt": "instruction", "response": "output"}
        assert not joined(jsonl(tmp_path / "x.jsonl", alpaca), corpus, columns=one)
        # a column of texts holds nothing else
        (tmp_path / "x.csv").write_text("instruction,input,output\nSay,,it\n")
        assert not joined(tmp_path / "x.csv", corpus)
        for second, other in (("it", False), (5, True), (None, True)):
            table = pa.Table.from_pylist([alpaca | {"input": second}])
            pq.write_table(table, tmp_path / "x.parquet")
            assert joined(tmp_path / "x.parquet", corpus) == other
            assert joined(tmp_path / "x.parquet", corpus, columns=both) == other


def classes(path, names, rows, kind):
    """A table whose answers are classes of these names, as `datasets` writes it."""
    from datasets import ClassLabel, Dataset, Features, Sequence, Value

    text = Value("string")
    features = Features(task=text, prompt=text, choices=Sequence(text), answer=ClassLabel(names=names))
    columns = {"task": ["t"] * len(rows), "prompt": [f"p{i}" for i in range(len(rows))]}
    columns |= {"choices": [choices for choices, _ in rows], "answer": [answer for _, answer in rows]}
    dataset = Dataset.from_dict(columns, features=features)
    if kind == "parquet":
        path.mkdir()
        dataset.to_parquet(str(path / "train.parquet"))
        return path / "train.parquet"
    dataset.save_to_disk(str(path))
    return path


CAPITALS = ["Paris", "Rome", "Bern", "Oslo"]
CLASSES = {
    "letters beside choices": ("ABCD", CAPITALS, 2, "Bern", "C"),
    "names that are other choices": ("1234", ["7", "1", "9", "12"], 0, "7", "1"),
    "a number that is another choice": ("ABCD", ["7", "8", "9", "0"], 0, "7", "A"),
    "choices that are the names": (["no", "yes"], ["yes", "no"], 1, "yes", "yes"),
    "some of the names": (["no", "yes", "maybe"], ["yes", "no"], 0, "no", "no"),
}


@pytest.mark.parametrize("kind", ["parquet", "saved"])
@pytest.mark.parametrize("case", CLASSES)
def test_a_class_that_is_an_answer_is_a_name_among_the_choices_or_the_index_of_one(
    tmp_path, monkeypatch, kind, case
):
    from smartdpp.evaluation.tasks import right_choice

    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    names, choices, number, answer, name = CLASSES[case]
    path = classes(tmp_path / "d", list(names), [(choices, number)], kind)
    columns = {
        "prompt": "prompt",
        "response": "answer",
        "choices": "choices",
        "answer": "answer",
        "task": "task",
    }
    found = [list(reader(str(path), columns=columns).rows()) for reader in (Jsonl, Hub)]
    found.append(list(Hub(str(path.parent if kind == "parquet" else path), columns=columns).rows()))
    for [row] in found:
        assert (row["response"], row["answer"]) == (name, answer)
        assert choices[right_choice(row)] == answer
        assert {type(value) for value in row.values()} <= {str, list, type(None)}


def test_super_natural_instructions(tmp_path):
    task = {
        "Contributors": ["x"],
        "Definition": ["Add the numbers."],
        "Instances": [
            {"id": "a", "input": "1 2", "output": ["3"]},
            {"id": "b", "input": "2 2", "output": ["4", "four"]},
        ],
    }
    (tmp_path / "task001_add.json").write_text(json.dumps(task, indent=1))
    found, notes = reading(tmp_path)
    assert [(row["id"], row["prompt"], row["response"]) for row in found] == [
        ("a", "Add the numbers.\n\n1 2", "3"),
        ("b", "Add the numbers.\n\n2 2", "4"),
    ]
    assert {row["task"] for row in found} == {"task001_add"}
    assert notes.counts["read_otherwise"]["the first of several right answers is taken"] == 1


TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            {"messages": [*TURNS, {"role": "assistant", "content": None, "tool_calls": [{}]}]},
            r"turn 3 \(assistant\) calls a function that is no \{name, arguments\} in JSON",
        ),
        ({"messages": [TURNS[0], TURNS[1] | {"weight": 0}]}, "its last assistant turn has weight 0"),
        ({"messages": TURNS[:1]}, "no assistant turn"),
        ({"prompt": "p", "response": None}, "the row has no response"),
        ({"prompt": "p", "response": [{"text": "r"}]}, "A tree of replies"),
        (
            {"prompt": "p", "output": "o", "completion": "c"},
            "its response could be output or completion: say which with corpus.columns",
        ),
    ],
)
def test_a_row_that_cannot_be_read_ends_the_run_or_is_left_out_and_counted(tmp_path, record, message):
    good = {"prompt": "p", "response": "r"}
    path = jsonl(tmp_path / "x.jsonl", good, record, good)
    with pytest.raises(
        InputError, match=rf"x.jsonl, line 2: .*{message}.*corpus.on_bad_row=drop leaves such rows out"
    ):
        rows(path, constants={"task": "t"})
    with pytest.raises(
        InputError,
        match=r"1 of 3 rows \(33.3%\) cannot be read \(1 .*\), more than corpus.max_bad_share=0.01",
    ):
        rows(path, constants={"task": "t"}, on_bad_row="drop")
    found, notes = reading(path, constants={"task": "t"}, on_bad_row="drop", max_bad_share=0.34)
    assert len(found) == 2
    [counted] = notes.record()["rows_left_out"].values()
    assert counted == {"rows": 1, "first": [f"{path}, line 2"]}
    with pytest.raises(InputError, match="none of its rows can be read"):
        rows(jsonl(path, record), constants={"task": "t"}, on_bad_row="drop", max_bad_share=1)


def test_malformed_lines_can_be_left_out_too(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(LINES + b'{"task": \n[1]\n"\xff"\n' + LINES)
    found, notes = reading(path, on_bad_row="drop", max_bad_share=1)
    assert plain(found) == 2 * ROWS
    assert notes.facts()["rows_left_out"] == {"malformed JSON": 1, "not UTF-8": 1, "not an object": 1}
    with pytest.raises(InputError, match=r"corpus.on_bad_row is 'skip': choose refuse"):
        Jsonl(str(path), on_bad_row="skip")


def test_fields_that_are_not_read_are_counted(tmp_path):
    turns = [TURNS[0], TURNS[1] | {"thinking": "hm", "weight": 0.5}]
    several = [*TURNS, *TURNS]
    path = jsonl(
        tmp_path / "x.jsonl",
        {"messages": turns, "reasoning": "so", "id": "1"},
        {"messages": several},
        {"messages": TURNS},
    )
    _, notes = reading(path, constants={"task": "t"})
    assert notes.facts()["fields_not_read"] == {"reasoning": 1, "thinking of turns": 1, "weight of turns": 1}
    assert notes.facts()["read_otherwise"] == {
        "conversations of several turns, a system turn or tools: kept as turns": 1,
    }
    assert "fields not read: reasoning (1 row), thinking of turns (1 row)" in "; ".join(said(notes.facts()))


def test_notes_reach_the_stage_and_dropped_json(small_run, corpus, tmp_path):
    from smartdpp.corpus.build import describe
    from smartdpp.run.pipeline import execute

    path = tmp_path / "in.jsonl"
    path.write_bytes(
        corpus.read_bytes()
        + b'{"task": "add", "prompt": "6*7?", "response": null}\n{"task": "add", "prompt": "6*7?", '
        b'"response": 42}\n'
    )
    run = small_run(f"corpus.path={path}", "corpus.on_bad_row=drop", "until=corpus")
    execute(run)
    line = describe(run.corpus.meta()["facts"])
    assert "1 row left out as unreadable (1 without response; first places in dropped.json)" in line
    assert "1 row: response is a number, read as its digits" in line
    dropped = json.loads((run.corpus.path / "dropped.json").read_text())["reading"]
    assert dropped["rows_left_out"] == {"without response": {"rows": 1, "first": [f"{path}, line 121"]}}


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.csv", "x.parquet"])
def test_a_row_longer_than_the_bound_is_refused_by_its_place(tmp_path, name):
    long = {"task": "t", "prompt": "w" * 200_000, "response": "r"}
    path = tmp_path / name
    writers = {
        "x.jsonl": lambda: jsonl(path, ROWS[0], long, ROWS[0]),
        "x.json": lambda: path.write_text(json.dumps([ROWS[0], long])),
        "x.csv": lambda: path.write_text(f"task,prompt,response\nt,p,r\nt,{long['prompt']},r\n"),
        "x.parquet": lambda: pq.write_table(pa.Table.from_pylist([ROWS[0], long]), path),
    }
    writers[name]()
    assert len(rows(path)) >= 2
    with pytest.raises(
        InputError, match=rf"{name}.*longer than 0.1 MiB, the most that corpus.max_line_mib allows"
    ):
        rows(path, max_line_mib=0.1)
    if name == "x.jsonl":
        assert len(rows(path, max_line_mib=0.1, on_bad_row="drop", max_bad_share=1)) == 2


@pytest.mark.parametrize("name", ["x.jsonl", "x.parquet", "x.arrow"])
@pytest.mark.parametrize("where", ["a prompt's turn", "the answer's turn", "a choice"])
def test_a_text_inside_of_a_list_counts_towards_a_rows_length(tmp_path, name, where):
    long = {
        at: "w" * 200_000 if at == where else "short"
        for at in ("a prompt's turn", "the answer's turn", "a choice")
    }
    turns = [
        {"role": "user", "content": long["a prompt's turn"]},
        {"role": "assistant", "content": long["the answer's turn"]},
    ]
    record = {"task": "t", "messages": turns, "choices": ["yes", long["a choice"]]}
    table = pa.Table.from_pylist([record])
    path = tmp_path / name
    if name == "x.jsonl":
        jsonl(path, record)
    elif name == "x.parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(str(path), table.schema) as file:
            file.write_table(table)
    assert len(rows(path)) == 1
    for reader in (Jsonl, Hub):
        with pytest.raises(
            InputError, match=rf"{name}.*longer than 0.1 MiB, the most that corpus.max_line_mib allows"
        ):
            list(reader(str(path), max_line_mib=0.1).rows())


def test_csv_cells_and_rows(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("id,task,prompt,response,license\n01,t,6*7?,42,\n02,t,short\n03,null,q,NA,MIT\n")
    with pytest.raises(InputError, match=r"x.csv, row 2: 3 cells for 5 columns"):
        rows(path)
    found, notes = reading(path, on_bad_row="drop", max_bad_share=1)
    assert [(row["id"], row["task"], row["response"], row["license"]) for row in found] == [
        ("01", "t", "42", None),
        ("03", "null", "NA", "MIT"),
    ]
    assert sum(notes.facts()["rows_left_out"].values()) == 1
    path.write_text("task,prompt,prompt\na,b,c\n")
    with pytest.raises(InputError, match="names prompt twice"):
        rows(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.parquet", b"PAR1" + bytes(60), r"x.parquet: cannot be read as parquet"),
        ("x.arrow", b"\xff\xff\xff\xff", r"x.arrow: cannot be read as arrow"),
        (
            "x.json",
            json.dumps(ROWS)[:-1].encode(),
            r"x.json: the JSON array is cut short after item 2, line 1",
        ),
        ("x.json", b'[{"task": "t" "prompt"}]', r"x.json, item 1 \(line 1\): malformed JSON"),
        ("x.json", b'{"task":\n', r"x.json: malformed JSON"),
        (
            "x.jsonl.zst",
            b"00000000: 2e20",
            r"x.jsonl.zst, line 1: malformed JSON .*is called .zst but is not packed so",
        ),
        ("x.xlsx", b"PK\x03\x04\xff\xfe", r"x.xlsx, line 1: not UTF-8 .*none of .jsonl, .ndjson"),
        (
            "x.jsonl.xz",
            lzma.compress(LINES * 99)[:-30],
            r"x.jsonl.xz: the .xz cannot be read beyond line \d+",
        ),
    ],
)
def test_what_cannot_be_read_is_said_in_one_sentence(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        rows(tmp_path / name)


def test_a_json_array_is_read_item_by_item(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps([ROWS[0] | {"prompt": f"{i} é [{{,"} for i in range(5000)], indent=1) + "\n")
    found = iter(Jsonl(str(path)).rows())
    assert next(found)["prompt"].startswith("0")
    assert [row["prompt"] for row in found] == [f"{i} é [{{," for i in range(1, 5000)]
    assert Path(path).stat().st_size > 1 << 18


def test_where_several_files_lie_is_no_part_of_a_run(small_run, corpus, tmp_path):
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        for name in ("a.jsonl", "b.jsonl"):
            (tmp_path / folder / name).write_bytes(corpus.read_bytes())

    def keys(form):
        return {
            small_run(f"corpus.path={form.format(tmp_path / folder)}").slug for folder in ("here", "there")
        }

    assert len(keys("[{0}/a.jsonl,{0}/b.jsonl]")) == 1
    assert len(keys("'{0}/*.jsonl'")) == 1
    assert small_run("corpus.max_line_mib=1").slug != small_run().slug  # what can be read
    assert small_run("corpus.max_line_mib=4").slug == small_run().slug


def test_what_is_said_of_an_evaluations_and_a_querys_file(small_run, corpus, tmp_path):
    from smartdpp.corpus.build import describe
    from smartdpp.query.stage import describe as query_told
    from smartdpp.run.pipeline import execute

    turns = [
        {"role": "user", "content": "What is odd?"},
        {"role": "assistant", "content": "7", "thinking": "hm"},
    ]
    held = jsonl(tmp_path / "held.jsonl", {"task": "parity", "messages": turns})
    (tmp_path / "wanted").mkdir()
    jsonl(tmp_path / "wanted" / "wanted.jsonl", {"prompt": "Is 8 even?"})
    (tmp_path / "wanted" / "readme.txt").touch()
    plain = ["evaluation=jsonl", f"evaluation.path={held}", "evaluation.tasks=null"]
    query = ["strategy=targeted", "query@strategy.query=file", f"strategy.query.path={tmp_path}/wanted"]
    run = small_run(*plain, *query, "until=mixture")
    execute(run)
    assert (
        "the evaluation's file: taken for JSON lines, fields not read: thinking of turns (1 row)"
        in describe(run.corpus.meta()["facts"])
    )
    assert "passed over readme.txt" in query_told(run.query.meta()["facts"])
    jsonl(tmp_path / "wanted" / "wanted.jsonl", {"question": ["a", "b"]})
    with pytest.raises(InputError, match=r"prompt must be text, found list") as refused:
        small_run(*plain, *query)
    assert "corpus." not in str(refused.value)


@pytest.mark.parametrize("name", ["x.json", "x.jsonl", "x.json.gz"])
def test_arrays_after_each_other_are_all_read(tmp_path, name):
    content = "[]\n" + "\n".join(json.dumps([row], indent=1) for row in ROWS) + " [ ]\n\n"
    (tmp_path / name).write_bytes(
        gzip.compress(content.encode()) if name.endswith("gz") else content.encode()
    )
    found = rows(tmp_path / name)
    assert plain(found) == ROWS


@pytest.mark.parametrize(
    ("behind", "message"),
    [
        (
            LINES.decode(),
            r"line 2: '\{' after the end of a JSON array; expected nothing more, or another array",
        ),
        ("\n]", r"line 3: '\]' after the end"),
        (", []", r"line 2: ',' after the end"),
        ("[" + json.dumps(ROWS[0]), r"cut short after item 1, line 2"),
    ],
)
def test_what_stands_behind_an_array_is_refused(tmp_path, behind, message):
    (tmp_path / "x.jsonl").write_text("[]\n" + behind)
    with pytest.raises(InputError, match=message):
        rows(tmp_path / "x.jsonl")


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".csv.gz"])
def test_a_stray_quote_swallows_no_rows_of_a_table(tmp_path, ending):
    lines = [
        "task,prompt,response",
        't,"So it began,r',
        "t,second,r",
        't,"third" is here,r',
        't,"a ""quoted""\nword, é",r',
        't,6" wide,r',
    ]
    content = "\n".join(lines).replace(",", "\t" if ending == ".tsv" else ",").encode()
    path = tmp_path / f"x{ending}"
    path.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    with pytest.raises(
        InputError,
        match=r"row 1: lines 2 to 4: a quote that is not in its place .* inside a cell in quotes twice",
    ):
        rows(path)
    found, notes = reading(path, on_bad_row="drop", max_bad_share=1)
    assert [row["prompt"].replace("\t", ",") for row in found] == ['a "quoted"\nword, é', '6" wide']
    assert notes.facts()["rows_left_out"] == {"with a quote that is not in its place": 3}


def test_a_quote_that_is_never_closed_leaves_out_what_it_reaches_over(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text('task,prompt,response\nt,p,r\nt,"begun,r\nt,q,r\n')
    with pytest.raises(
        InputError, match=r"row 2: lines 3 to 4: a quote that is not in its place \(unexpected end of data\)"
    ):
        rows(path)
    path.write_text('task,"prompt,response\nt,p,r\n')
    with pytest.raises(
        InputError, match=r"x.csv: cannot be read as CSV \(its head holds a quote that is not in its place"
    ):
        rows(path)
    path.write_text('task,prompt,response\nt,"begun,r\n' + 99_999 * "t,q,r\n")
    with pytest.raises(InputError, match=r"longer than 0.1 MiB.* Or a quote is never closed"):
        rows(path, max_line_mib=0.1, on_bad_row="drop", max_bad_share=1)


def test_a_tables_rows_in_other_line_ends_long_cells_and_not_utf_8(tmp_path):
    path = tmp_path / "x.csv"
    long = "w\n" * 100_000
    for end in ("\n", "\r\n", "\r"):
        path.write_bytes(f'task,prompt,response{end}{end}t,"{long}",r{end}t,\0,r'.encode())
        assert [row["prompt"] for row in rows(path)] == [long, "\0"]
    path.write_bytes(b'task,prompt,response\nt,\xe9,r\nt,"\xc3\xa9\n",r\nt,"\n\xff",r\n')
    with pytest.raises(InputError, match=r"row 1: line 2: bytes that are not UTF-8"):
        rows(path)
    found, notes = reading(path, on_bad_row="drop", max_bad_share=1)
    assert [row["prompt"] for row in found] == ["é\n"]
    assert notes.facts()["rows_left_out"] == {"with bytes that are not UTF-8": 2}


SUPERNI = {"Definition": ["Add."], "Instances": [{"id": "a", "input": "1 2", "output": ["3"]}]}


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("end", ["", "\n\n \n"])
def test_an_object_holds_the_same_rows_on_one_line_and_on_several(tmp_path, indent, end):
    def of(record):
        (tmp_path / "x.json").write_text(json.dumps(record, indent=indent) + end)
        return plain(rows(tmp_path)), plain(rows(tmp_path / "x.json"))

    assert of({"version": 1, "data": ROWS}) == (ROWS, ROWS)
    assert of({"train": ROWS}) == (ROWS, ROWS)
    assert of(SUPERNI)[0] == [{"task": "x", "prompt": "Add.\n\n1 2", "response": "3"}]
    assert of(ROWS[0]) == (ROWS[:1], ROWS[:1])
    assert of(ROWS[0] | {"examples": ROWS[1:]}) == (ROWS[:1], ROWS[:1])  # a row that has examples
    (tmp_path / "x.json").write_text(json.dumps({"Instances": 1, "Definition": 2}, indent=indent) + end)
    with pytest.raises(InputError, match="its fields are Instances, Definition"):
        rows(tmp_path / "x.json")


def test_the_lists_beside_the_one_that_is_read_are_counted(tmp_path):
    (tmp_path / "x.json").write_text(json.dumps({"train": ROWS[1:], "data": ROWS}))
    found, notes = reading(tmp_path / "x.json")
    assert plain(found) == ROWS
    assert notes.facts()["fields_not_read"] == {"train": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps(ROWS)[:60], r"malformed JSON .*or the file is cut short"),
        (json.dumps({"data": ROWS}, indent=1)[:-9], r"malformed JSON"),
        ("[" + json.dumps({"loss": 1}) + ", {", r"item 1 .*no prompt and no response"),
        ("version https://git-lfs.github.com/spec/v1\n", r"malformed JSON"),
        (json.dumps([{"comment": "mine"}, *ROWS]), r"item 1 .*no prompt and no response"),
    ],
)
def test_a_damaged_json_file_of_a_folder_is_refused_and_not_passed_over(tmp_path, content, message):
    WRITERS["x.jsonl"](tmp_path / "a.jsonl")
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(InputError, match=rf"x.json.*{message}"):
        rows(tmp_path)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("[]", "no rows"),
        ("[1, 2]", "its items are no objects"),
        ("3", "its items are no objects"),
        ("{}", "no prompt and response among its fields (none)"),
        ('{"data": ["a"], "loss": 1}', "no prompt and response among its fields (data, loss)"),
        (json.dumps({f"w{i}": i for i in range(20)}), "(w0, w1, w2, w3, w4, w5, w6, w7 and 12 more)"),
    ],
)
def test_json_of_a_folder_that_is_whole_and_holds_no_rows_is_passed_over(tmp_path, content, why):
    WRITERS["x.jsonl"](tmp_path / "a.jsonl")
    (tmp_path / "x.json").write_text(content)
    found, notes = reading(tmp_path)
    assert plain(found) == ROWS
    assert notes.passed_over["x.json"].endswith(why)


def test_a_folders_file_is_looked_at_once_while_it_stays_the_same(tmp_path, monkeypatch):
    WRITERS["x.jsonl"](tmp_path / "a.jsonl")
    (tmp_path / "x.json").write_text('{"loss": 1}')
    looked = []

    def opened(path, longest):
        looked.append((path.name, longest))
        return read(path, longest)

    read = files.opened
    monkeypatch.setattr(files, "opened", opened)
    for _ in range(3):
        assert Jsonl(str(tmp_path), max_line_mib=1).check() == []
    assert looked == [("x.json", 1 << 20)]
    (tmp_path / "x.json").write_text(json.dumps(ROWS))
    assert len(rows(tmp_path, max_line_mib=1)) == 4


def test_a_vocabulary_beside_the_rows_is_not_read_to_its_end(tmp_path, monkeypatch):
    WRITERS["x.jsonl"](tmp_path / "a.jsonl")
    for indent in (None, 1):
        (tmp_path / "vocab.json").write_text(
            json.dumps({f'w "{i}"': i for i in range(50_000)}, indent=indent)
        )
        monkeypatch.setattr(files, "_object", refused)
        found, notes = reading(tmp_path)
        assert plain(found) == ROWS
        assert "no prompt and response among its fields" in notes.passed_over["vocab.json"]
        assert len(notes.passed_over["vocab.json"]) < 200


@pytest.mark.parametrize(
    ("ending", "pack"),
    [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress), ("zst", packed_zst)],
)
def test_what_is_packed_in_several_members_is_all_read_or_refused(tmp_path, ending, pack):
    path, packed = tmp_path / f"x.jsonl.{ending}", pack(LINES)
    path.write_bytes(packed + packed)
    assert plain(rows(path)) == 2 * ROWS
    if ending != "zst":
        path.write_bytes(packed + bytes(8) + packed + bytes(4))
        assert plain(rows(path)) == 2 * ROWS
    for behind in (packed[:3], packed[:-9], b"X" + packed[1:]):
        path.write_bytes(packed + behind)
        with pytest.raises(InputError, match=rf"x.jsonl.{ending}: the \S+ cannot be read beyond line \d"):
            rows(path)
