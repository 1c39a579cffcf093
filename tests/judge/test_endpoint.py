"""A judge behind HTTP: whatever the server does, nothing is lost, nothing is asked twice, and it ends with a
clear word."""

from __future__ import annotations

import re
import time
from itertools import pairwise
from pathlib import Path

import pytest

from smartdpp.errors import InputError
from smartdpp.judge import Endpoint, endpoint
from smartdpp.judge.template import OURS
from smartdpp.types import Question, Verdict

from .server import Answer, Served, failed, said, serving

KEY = "planted-Zx93kQ7pLm2vRt81"


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replies of one test are not another's, and nobody waits long."""
    monkeypatch.setenv("SMARTDPP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(endpoint, "FIRST", 0.01)


def questions(n: int) -> list[Question]:
    """The model's answer is the better one of the even ones."""
    return [
        Question(f"instruction {i}", f"{'good' if i % 2 == 0 else 'bad'} {i}", f"fair {i}") for i in range(n)
    ]


def fair(question: str, tries: int = 0) -> Answer:
    """Prefers good to fair to bad, wherever they stand."""
    first, second = re.findall(r"^(good|fair|bad) \d+$", question, re.MULTILINE)
    order = ["good", "fair", "bad"]
    return said("A" if order.index(first) < order.index(second) else "B")


def judge(served: Served, **more: object) -> Endpoint:
    return Endpoint(**{"base_url": served.url, "model": "judge", "retries": 3, "timeout": 5.0} | more)  # type: ignore[arg-type]


RIGHT = [Verdict(float(i % 2 == 0), float(i % 2 == 0), ("AB"[i % 2], "BA"[i % 2])) for i in range(6)]


def test_both_orders_are_asked_and_each_question_once() -> None:
    with serving(fair) as served:
        ask = judge(served).prepare()
        assert ask(questions(6)) == RIGHT
        assert (ask.spent.calls, ask.spent.kept, ask.spent.tokens) == (12, 0, 1200)
        assert served.calls == len(served.asked) == 12
        again = judge(served).prepare()
        assert again([*questions(6), *questions(2)]) == [*RIGHT, *RIGHT[:2]]
        assert (again.spent.calls, again.spent.kept) == (0, 12)
        assert served.calls == 12
    body = served.bodies[0]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("judge", 0.0, 16)


def test_another_model_or_another_template_is_asked_anew_and_another_address_only_by_name(
    tmp_path: Path,
) -> None:
    (tmp_path / "mine.txt").write_text("Judge {instruction}\n{first}\nor\n{second}\n")
    with serving(fair) as served, serving(fair) as other:
        for one in (
            judge(served),
            judge(served, model="b"),
            judge(served, template=str(tmp_path / "mine.txt")),
        ):
            one.prepare()(questions(1))
        assert served.calls == 6
        judge(other).prepare()(questions(1))
        assert other.calls == 0
        for again in range(2):
            judge(other, served_as="the second").prepare()(questions(1))
            assert other.calls == 2, again
        judge(served).prepare()(questions(1))
        assert served.calls == 6


@pytest.mark.parametrize(
    "bad",
    [
        failed(429, Retry_After="0.05"),
        failed(429, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"),
        failed(500),
        failed(503),
        failed(408),
        said("A", wait=0.6),  # longer than is waited for
        Answer(b'{"id": "1", "choices": [{"mess'),
        Answer(b'{"id": "1", "choi', length=400),  # the connection ends
        Answer(b'{"hello": "there"}'),
        Answer(b'{"choices": []}'),
        Answer(b'{"choices": [{"message": null}]}'),
        Answer(b'{"choices": "A"}'),
        Answer(b"[1, 2]"),
        Answer(b"<html>busy</html>", headers=(("Content-Type", "text/html"),)),
        Answer(b""),
    ],
    ids=lambda bad: f"{bad.status} {bad.body[:24]!r} {bad.headers[-1:]}",
)
def test_a_server_that_fails_for_a_while_is_asked_again(bad: Answer) -> None:
    def behave(question: str, tries: int) -> Answer:
        return bad if tries < 2 and "instruction 0" in question else fair(question)

    with serving(behave) as served:
        ask = judge(served, timeout=0.3).prepare()
        assert ask(questions(2)) == RIGHT[:2]
        assert ask.spent.calls == served.calls == 4 + 2 * 2
        assert ask.spent.tokens == 400


def test_the_seconds_that_the_server_asks_for_are_waited() -> None:
    def behave(question: str, tries: int) -> Answer:
        return failed(429, Retry_After="0.4") if tries == 0 else fair(question)

    with serving(behave) as served:
        judge(served, concurrency=1).prepare()(questions(1))
        waits = [after - before for before, after in pairwise(served.times)]
    assert waits[0] >= 0.4
    assert waits[1] < 0.3


def test_all_of_it_at_once_loses_nothing_and_answers_every_question_once() -> None:
    bad = [failed(429, Retry_After="0.01"), failed(500), Answer(b"{"), Answer(b'{"choices": []}')]

    def behave(question: str, tries: int) -> Answer:
        return fair(question) if tries >= len(question) % 3 else bad[(len(question) + tries) % len(bad)]

    with serving(behave) as served:
        ask = judge(served, concurrency=6).prepare()
        found = ask(questions(30))
        assert [verdict.preference for verdict in found] == [1.0, 0.0] * 15
        assert set(served.answered.values()) == {1}
        assert len(served.answered) == 60
        assert 1 < served.most <= 6
        assert ask.spent.calls == served.calls


def test_a_server_that_stays_away_ends_it_and_the_next_time_only_what_is_missing_is_asked() -> None:
    def behave(question: str, tries: int) -> Answer:
        return failed(500, "out of order") if "instruction 3" in question else fair(question)

    with serving(behave) as served:
        with pytest.raises(
            InputError, match=r"4 tries and no reply \(status 500: .*out of order.*kept"
        ) as error:
            judge(served, concurrency=2).prepare()(questions(6))
        assert "\n" not in str(error.value)
        answered = sum(served.answered.values())
        assert 0 < answered < 12
        served.behave = fair
        ask = judge(served).prepare()
        assert ask(questions(6)) == RIGHT
        assert (ask.spent.kept, ask.spent.calls) == (answered, 12 - answered)
        assert set(served.answered.values()) == {1}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_refusal_ends_it_at_the_first_word(status: int) -> None:
    with serving(lambda *_: failed(status, "we do not know you")) as served:
        began = time.monotonic()
        with pytest.raises(InputError, match=f"the server refuses.*{status}.*we do not know you"):
            judge(served, concurrency=2).prepare()(questions(20))
        assert served.calls <= 4
        assert time.monotonic() - began < 3


def test_no_server_at_all_is_said() -> None:
    with serving(fair) as served:
        pass
    with pytest.raises(InputError, match="no connection"):
        judge(served, retries=1).prepare()(questions(1))


def test_what_names_neither_answer_has_no_verdict_and_is_kept_all_the_same() -> None:
    with serving(lambda question, _: said("Hard to say." if "instruction 1" in question else "A")) as served:
        first, second = judge(served).prepare()(questions(2))
        assert first == Verdict(1.0, 0.0, ("A", "A"))
        assert (first.preference, first.disagrees) == (0.5, True)
        assert second == Verdict(None, None, ("Hard to say.", "Hard to say."))
        assert second.preference is None
        judge(served).prepare()(questions(2))
        assert served.calls == 4


def test_the_budget_of_calls_and_of_tokens_is_kept() -> None:
    with serving(fair) as served:
        for limit in ({"max_calls": 5}, {"max_tokens": 900}):
            ask = judge(served, concurrency=3, **limit).prepare()
            before = served.calls
            with pytest.raises(InputError, match=f"{next(iter(limit))}=.*used up after .* kept"):
                ask(questions(40))
            assert ask.spent.calls == served.calls - before <= limit.get("max_calls", 9)
            assert served.calls > before
        assert judge(served, max_calls=80).prepare()(questions(40))[0] == RIGHT[0]
        assert served.calls == 80


def test_what_it_will_cost_is_stated_and_more_than_the_budget_is_refused_before() -> None:
    one = Endpoint("http://localhost:1/v1", "judge", max_calls=20)
    characters = len(OURS.read_text().strip())
    tokens = 2 * (1000 + 10 * characters) // 4 + 20 * 16
    assert f"up to 20 calls of judge (at most 20), up to about {tokens:,} tokens (no limit)" in one.stated(
        10, 1000
    )
    assert one.refusals(10) == []
    assert "allow 22 or more" in one.refusals(11)[0]


def test_the_key_goes_to_the_server_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MY_JUDGE_KEY", KEY)
    caplog.set_level(0)
    with serving(lambda question, _: said(f"{KEY} is your key: A")) as served:
        one = judge(served, key_env="MY_JUDGE_KEY")
        assert one.check() == []
        ask = one.prepare()
        verdicts = ask(questions(2))
        assert served.keys == {f"Bearer {KEY}"}
        served.behave = lambda *_: failed(401, f"Incorrect API key provided: {KEY}")
        with pytest.raises(InputError, match="<MY_JUDGE_KEY>") as refused:
            one.prepare()(questions(3))
        served.behave = lambda *_: failed(500, f"{KEY}")
        with pytest.raises(InputError) as stopped:
            judge(served, key_env="MY_JUDGE_KEY", retries=0).prepare()(questions(3))
    shown = f"{one!r} {ask!r} {verdicts} {refused.value} {stopped.value} {refused.getrepr(style='long')}"
    assert KEY not in shown
    assert KEY not in caplog.text
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 4
    assert not [path for path in files if KEY in path.read_text()]


@pytest.mark.parametrize(
    ("more", "wrong"),
    [
        ({"key_env": KEY}, "never the key"),
        ({"key_env": "JUDGE"}, "never the key"),
        ({"key_env": "UNSET_API_KEY"}, "UNSET_API_KEY is not set"),
        ({"base_url": "localhost:8000"}, "no address"),
        ({"pattern": "("}, "no regular expression"),
        ({"pattern": "A|B"}, "no group"),
        ({"template": "/nowhere.txt"}, "cannot be read"),
        ({"template": "{half}"}, r"has no \{second\}"),
    ],
)
def test_what_is_wrong_is_said_before_any_work(more: dict[str, str], wrong: str, tmp_path: Path) -> None:
    if more.get("template") == "{half}":
        (tmp_path / "half.txt").write_text("{instruction} {first}")
        more = {"template": str(tmp_path / "half.txt")}
    problems = Endpoint(**{"base_url": "http://localhost:1/v1", "model": "judge"} | more).check()
    assert len(problems) == 1
    assert re.search(wrong, problems[0])
    assert KEY not in problems[0]


@pytest.mark.parametrize(
    ("reply", "preference"),
    [
        ("A", 1.0),
        ("B", 0.0),
        (" b", None),
        ("**B**", 0.0),
        ("(A)", 1.0),
        ("Answer: B.", 0.0),
        ("answer B", 0.0),
        ("A\n\nIt is shorter.", 1.0),
        ("The better answer is B.", 0.0),
        ("[[A]]", 1.0),
        ("Answer B is good, but [[A]] is better than B", 1.0),
        ("A good answer would say more", None),
        ("<think>B? No, A.\nOr B</think>A", 1.0),
        ("", None),
        ("Both are fine", None),
        ("AB", None),
    ],
)
def test_a_letter_is_read_where_it_is_the_verdict(reply: str, preference: float | None) -> None:
    assert Endpoint("http://x/v1", "judge").parsed(reply) == preference


def test_a_pattern_of_ones_own_reads_other_replies() -> None:
    one = Endpoint("http://x/v1", "judge", pattern=r"verdict=(a|b)")
    assert [one.parsed(f"so verdict={letter}.") for letter in "abc"] == [1.0, 0.0, None]


def test_an_answer_that_looks_like_the_template_stays_what_it_is() -> None:
    with serving(lambda *_: said("A")) as served:
        judge(served).prepare()([Question("{first} {second}", "{second}", "the reference")])
        (first,) = (
            body["messages"][0]["content"]
            for body in served.bodies
            if "A\n{second}" in str(body["messages"][0]["content"])
        )
    assert "### Instruction\n{first} {second}\n" in first
    assert "### Answer A\n{second}\n\n### Answer B\nthe reference\n" in first
