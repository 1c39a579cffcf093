import gzip
import json

import pytest

from smartdpp.corpus.jsonl import Jsonl
from smartdpp.errors import InputError

GOOD = {"task": "t", "prompt": "p", "response": "r"}


def write(path, *records):
    lines = "".join(
        record if isinstance(record, str) else json.dumps(record) + "\n" for record in records
    ).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
    return path


def rows(path, **parameters):
    return list(Jsonl(str(path), **parameters).rows())


def test_every_field_of_a_line_arrives(tmp_path):
    line = GOOD | {
        "id": "a",
        "dataset": "d",
        "source": "s",
        "license": "MIT",
        "template": "zs_opt",
        "choices": ["r", "q"],
        "answer": "r",
    }
    assert rows(write(tmp_path / "x.jsonl", line)) == [line | {"score": None}]
    assert rows(write(tmp_path / "y.jsonl", GOOD | {"id": 7, "unknown": 1}))[0]["id"] == "7"


def test_a_folder_is_its_files_in_sorted_order_gzip_or_not(tmp_path):
    write(tmp_path / "b" / "2.jsonl", GOOD | {"prompt": "third"})
    write(tmp_path / "a.jsonl.gz", GOOD | {"prompt": "first"}, "\n", GOOD | {"prompt": "second"})
    write(tmp_path / "notes.txt", "not data")
    found = rows(tmp_path)
    assert [row["prompt"] for row in found] == ["first", "second", "third"]
    assert [row["source"] for row in found] == ["a.jsonl.gz", "a.jsonl.gz", "2.jsonl"]
    assert Jsonl(str(tmp_path)).check() == []


def test_names_are_mapped_and_lacking_fields_filled(tmp_path):
    path = write(tmp_path / "x.jsonl", {"q": "p", "a": "r"}, {"q": "p2", "a": "r2", "task": "own"})
    found = rows(
        path, columns={"prompt": "q", "response": "a"}, constants={"task": "alpaca", "license": "MIT"}
    )
    assert [(row["task"], row["prompt"], row["response"], row["license"]) for row in found] == [
        ("alpaca", "p", "r", "MIT"),
        ("own", "p2", "r2", "MIT"),
    ]
    with pytest.raises(InputError, match=r"corpus.columns names promt"):
        Jsonl(str(path), columns={"promt": "q"})


def test_a_number_is_read_where_a_mapping_says_so(tmp_path):
    path = write(tmp_path / "x.jsonl", GOOD | {"rating": 4, "score": "high"}, GOOD | {"rating": -0.5}, GOOD)
    # a field called score may be anything until it is asked for
    assert [row["score"] for row in rows(path)] == [None, None, None]
    assert [row["score"] for row in rows(path, columns={"score": "rating"})] == [4, -0.5, None]
    for bad in ("high", True, float("nan"), [1], 10**400):
        write(path, GOOD, GOOD | {"rating": bad})
        with pytest.raises(
            InputError, match=r"line 2: rating, mapped to score, must be a finite number, found"
        ):
            rows(path, columns={"score": "rating"})


def test_ids_follow_content_not_position(tmp_path):
    lines = [GOOD, GOOD | {"prompt": "q"}, GOOD, GOOD]
    forward, backward = (
        rows(write(tmp_path / "x.jsonl", *lines)),
        rows(write(tmp_path / "y.jsonl", *lines[::-1])),
    )
    ids = [row["id"] for row in forward]
    assert len(set(ids)) == 4
    assert set(ids) == {row["id"] for row in backward}
    assert ids[0] == rows(write(tmp_path / "z.jsonl", GOOD | {"dataset": "d"}))[0]["id"]


def test_a_given_id_that_comes_twice_names_both_places(tmp_path):
    write(tmp_path / "a.jsonl", GOOD, GOOD | {"id": "x"})
    write(tmp_path / "b.jsonl", GOOD | {"id": "x"})
    with pytest.raises(InputError, match=r"'x' comes twice: .*a.jsonl, line 2 and .*b.jsonl, line 1"):
        rows(tmp_path)


def test_text_is_literal(tmp_path):
    nasty = "{{ 7*7 }} ${oc.env:HOME} <|im_start|>system %s {0} \\n\r\n\t \u2028 é 😀 "
    [row] = rows(write(tmp_path / "x.jsonl", GOOD | {"prompt": nasty, "response": nasty}))
    assert row["prompt"] == row["response"] == nasty


def test_a_byte_order_mark_is_not_content(tmp_path):
    (tmp_path / "x.jsonl").write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode())
    assert rows(tmp_path / "x.jsonl")[0]["prompt"] == "p"


@pytest.mark.parametrize(
    ("second_line", "message"),
    [
        ('{"task": "t", "prompt": ', r"line 2: malformed JSON"),
        ("[1, 2]\n", r"line 2: expected a JSON object .* found a list"),
        ("[" * 100_000 + "\n", r"line 2: malformed JSON \(nested too deeply"),
        ({"prompt": "p", "response": "r"}, r"line 2: the row has no task; its fields are prompt, response"),
        ({"task": "", "prompt": "p", "response": "r"}, r"line 2: the row has no task"),
        (
            {"task": "t", "response": "r", "text": "x"},
            r"line 2: the row has no prompt; its fields are task, response, text",
        ),
        ({"task": "t", "prompt": "p", "response": None}, r"line 2: the row has no response"),
        ({}, r"line 2: the row has no task and no prompt and no response; its fields are none"),
        (GOOD | {"prompt": True}, r"line 2: prompt must be text, found bool 'True'"),
        (GOOD | {"response": ["r", "s"]}, r"line 2: response must be text, found list"),
        (GOOD | {"choices": "r"}, r"line 2: choices must be a list of texts, found str"),
        (GOOD | {"choices": [1]}, r"line 2: choices must be a list of texts, found int"),
        (GOOD | {"prompt": "\ud800"}, r"line 2: prompt holds a lone surrogate"),
        (
            {"task": "t", "messages": [{"role": "user", "content": "hi"}]},
            r"line 2: messages hold no assistant turn",
        ),
        (
            {"task": "t", "messages": [{"role": "user"}]},
            r"line 2: turn 1 \(user\) has no content; messages must be",
        ),
        ({"task": "t", "messages": "hi"}, r"line 2: messages must be a list"),
    ],
)
def test_a_bad_line_is_named(tmp_path, second_line, message):
    with pytest.raises(InputError, match=message):
        rows(write(tmp_path / "x.jsonl", GOOD, second_line))


def test_bytes_that_are_not_text(tmp_path):
    (tmp_path / "x.jsonl").write_bytes(json.dumps(GOOD).encode() + b'\n{"task": "\xff"}\n')
    with pytest.raises(InputError, match="line 2: not UTF-8"):
        rows(tmp_path / "x.jsonl")


@pytest.mark.parametrize(
    "damage",
    [lambda data: b"plain text", lambda data: data[:-12], lambda data: data[:30] + b"\0" * 20 + data[50:]],
)
def test_a_damaged_gzip_is_named(tmp_path, damage):
    path = write(tmp_path / "x.jsonl.gz", *[GOOD | {"prompt": str(i**9)} for i in range(500)])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        InputError, match=r"x.jsonl.gz: the gzip cannot be read beyond line \d+|x.jsonl.gz, line"
    ):
        rows(path)


def test_what_is_not_there_is_found_before_any_work(tmp_path):
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "data.csv").write_text("a,b")
    assert "there is no file or folder" in Jsonl(str(tmp_path / "missing.jsonl")).check()[0]
    assert "is empty" in Jsonl(str(tmp_path / "empty.jsonl")).check()[0]
    assert "holds no file with rows (it holds data.csv)" in Jsonl(str(tmp_path / "other")).check()[0]
    with pytest.raises(InputError, match="holds no rows"):
        rows(write(tmp_path / "blank.jsonl", "\n\n"))


def test_the_fingerprint_is_the_content(tmp_path):
    def fingerprint(path):
        return Jsonl(str(path)).fingerprint()

    first, copy = write(tmp_path / "a" / "x.jsonl", GOOD), write(tmp_path / "b" / "x.jsonl", GOOD)
    assert fingerprint(first) == fingerprint(copy) == fingerprint(first.parent)
    write(copy, GOOD | {"prompt": "q"})
    assert fingerprint(first) != fingerprint(copy)


def test_rows_are_streamed(tmp_path):
    stream = Jsonl(str(write(tmp_path / "x.jsonl", GOOD, "broken\n"))).rows()
    assert next(stream)["prompt"] == "p"
    with pytest.raises(InputError):
        next(stream)
