"""Open-ended answers through a whole run: answered, judged in both orders, counted, reported, and never asked
twice."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from smartdpp.errors import InputError
from smartdpp.evaluation.combined import Combined
from smartdpp.evaluation.heldout import Heldout
from smartdpp.evaluation.indomain import Indomain
from smartdpp.evaluation.judged import Judged
from smartdpp.evaluation.scores import read_samples
from smartdpp.judge import Local, endpoint
from smartdpp.models import Tiny
from smartdpp.models.turns import alike
from smartdpp.report import main as report
from smartdpp.run.cell import Run
from smartdpp.run.pipeline import execute
from smartdpp.run.plan import sweep
from smartdpp.run.stages import stages
from smartdpp.store.disk import read_json
from smartdpp.types import Judge, Question, Spent, Verdict
from tests.judge.conftest import reward_model  # noqa: F401  # a fixture
from tests.judge.server import failed, said, serving

from .lively import Lively, row
from .test_indomain import small_run  # noqa: F401  # a fixture

KEY = "planted-Qw7xT2mZk94LpVb6"
SMALL = ("strategy=random", "evaluation.max_new_tokens=8")
ANSWERED = ("evaluation.tasks=[parity]", "evaluation.limit=4")
ENDPOINT = (
    *(f"evaluation.of.heldout.{one}" for one in ("tasks=[parity]", "limit=4", "generate=false")),
    *(f"evaluation.of.judge.{one}" for one in ("tasks=[parity]", "limit=4", "max_new_tokens=8")),
    "evaluation=combined",
    "~evaluation.of.indomain",
    "+evaluation@evaluation.of.judge=judge",
    "judge@evaluation.of.judge.judge=endpoint",
    "evaluation.of.judge.judge.model=judge",
    "evaluation.of.judge.judge.key_env=PLANTED_API_KEY",
    "evaluation.of.judge.judge.max_calls=8",
    "evaluation.of.judge.reference=base",
    "strategy=random",
    "recipe.learning_rate=0.5",  # so that answers change
)


def earlier(question: str, tries: int = 0) -> object:
    """Prefers what comes first in the alphabet."""
    first, second = (
        question.partition("### Answer A\n")[2].partition("\n\n### Question")[0].split("\n\n### Answer B\n")
    )
    return said("A" if first < second else "B")


def test_a_servers_verdicts_stand_in_plan_run_summary_and_report_and_a_rerun_costs_none(
    small_run: Callable[..., Run],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("SMARTDPP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PLANTED_API_KEY", KEY)
    monkeypatch.setattr(endpoint, "FIRST", 0.01)
    caplog.set_level(0)
    with serving(lambda *_: failed(500, f"no, {KEY}")) as served:
        asked = (
            *ENDPOINT,
            f"evaluation.of.judge.judge.base_url={served.url}",
            "evaluation.of.judge.judge.retries=0",
        )
        execute(small_run(*asked, "until=corpus"))
        execute(small_run(*asked, "until=plan"))
        plan = capsys.readouterr().out
        planned = {stage.name: stage.plan() for stage in stages(small_run(*asked))}
        assert "judge: up to 8 calls of judge (at most 8), up to about " in planned["scores"]
        assert "calls" not in planned["base scores"]  # its answers are the reference
        sweep([((f"seed={seed}",), small_run(*asked, f"seed={seed}")) for seed in (0, 1)])
        assert "2 evaluations, each: judge: up to 8 calls of judge (at most 8)" in caplog.text
        with pytest.raises(InputError, match="<PLANTED_API_KEY>"):
            execute(small_run(*asked))
        served.behave = earlier
        run = small_run(*asked)
        score = execute(run)
        row = read_json(run.path / "result.json")
        assert 8 < row["judge/judge_calls"] == served.calls <= 16  # of both attempts
        assert score == row["loss"]

        shutil.rmtree(run.scores.path)
        shutil.rmtree(run.base.path)
        (run.path / "result.json").unlink()
        calls = served.calls
        execute(small_run(*asked[:-2], "evaluation.of.judge.judge.base_url=http://127.0.0.1:9/v1"))
        assert served.calls == calls
        again = read_json(run.path / "result.json")
    names = [name for name in row if name.startswith("judge/") and "seconds" not in name]
    spent = {"judge/judge_calls", "judge/judge_kept", "judge/judge_tokens"}
    assert {name for name in names if again[name] != row[name]} == spent
    assert (again["judge/judge_calls"], again["judge/judge_kept"]) == (0, 8)

    assert row["judge/win_rate_base"] == row["judge/lc_win_rate_base"] == 0.5
    assert row["judge/win_rate_change"] == pytest.approx(row["judge/win_rate"] - 0.5)
    assert row["judge/judge_disagreement"] == 0
    samples = read_samples(run.scores.path / "judge" / "samples.jsonl")
    base = read_samples(run.base.path / "judge" / "samples.jsonl")
    assert [sample["reference"] for sample in samples] == [sample["generation"] for sample in base]
    for sample in samples:
        ours, theirs = sample["generation"], sample["reference"]
        assert sample["win_rate"] == (0.5 if ours == theirs else float(ours < theirs))
    meta = read_json(run.scores.path / "meta.json")["facts"]["others"]["judge"]["judge"]
    assert meta["tokens"] == 0  # all were kept
    assert report([str(run.path), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "report.md").read_text()
    assert "## The judge (judge)" in text
    assert "win rate at equal length" in text
    shown = capsys.readouterr().out
    assert "judge: held-out tasks, never trained on: base → tuned" in shown
    assert "judge, judge, tuned answers: the two orders disagree on 0%" in shown
    assert KEY not in shown + plan + text + caplog.text
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    assert [path for path in files if b"PLANTED_API_KEY" in path.read_bytes()]


def test_a_file_of_instructions_a_file_of_references_and_a_reward_model(
    small_run: Callable[..., Run],  # noqa: F811
    reward_model: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    asked = [{"instruction": f"Say something about {i}.", "output": "x" * i} for i in range(1, 7)]
    (tmp_path / "ask.json").write_text(json.dumps(asked))
    answers = [{"prompt": one["instruction"], "response": "A reference."} for one in reversed(asked)]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(one) + "\n" for one in answers))
    overrides = (
        "evaluation=judge", *SMALL, "judge@evaluation.judge=reward", f"evaluation.judge.path={reward_model}",
        "evaluation.instructions=file", f"evaluation.path={tmp_path / 'ask.json'}",
        f"evaluation.reference={tmp_path / 'answers.jsonl'}", "evaluation.limit=5",
    )  # fmt: skip
    run = small_run(*overrides)
    execute(small_run(*overrides, "until=plan"))
    assert "10 answers scored by" in " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert execute(run) == read_json(run.path / "result.json")["win_rate"]
    row = read_json(run.path / "result.json")
    assert (row["documents"], row["judge_reference_length"], row["judge_disagreement"]) == (5, 12.0, 0.0)
    assert {sample["reference"] for sample in read_samples(run.scores.path / "samples.jsonl")} == {
        "A reference."
    }
    settings = read_json(run.scores.path / "scores.json")["settings"]
    assert settings["difficulty"] == "the base model's preference"
    assert (settings["temperature"], settings["seed"], settings["max_new_tokens"]) == (0.0, 0, 8)
    assert len((run.scores.path / "generations.jsonl").read_text().splitlines()) == 5
    assert report([str(run.path), "--out", str(tmp_path / "out")]) == 0
    assert "## The judge" in (tmp_path / "out" / "report.md").read_text()
    execute(small_run(*overrides, "until=plan"))
    assert "to do" not in capsys.readouterr().out

    (tmp_path / "moved.jsonl").write_text((tmp_path / "answers.jsonl").read_text())
    moved = [one.replace("answers.jsonl", "moved.jsonl") for one in overrides]
    assert small_run(*moved).slug == run.slug  # files count by what they hold
    (tmp_path / "moved.jsonl").write_text((tmp_path / "answers.jsonl").read_text().replace("A ref", "My ref"))
    other = small_run(*moved)
    assert (other.scores.key != run.scores.key, other.corpus.key) == (True, run.corpus.key)
    (tmp_path / "moved.jsonl").write_text(json.dumps(answers[1]) + "\n")
    with pytest.raises(InputError, match=r"no answer to 4 of 5 instructions"):
        small_run(*moved)


def test_rows_of_the_pools_tasks_drawn_answers_and_a_template_of_ones_own(
    small_run: Callable[..., Run],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    (tmp_path / "mine.txt").write_text("Which one?\n{instruction}\n{first}\n{second}\nA or B:")
    overrides = (
        "evaluation=judge", *SMALL, "evaluation.instructions=indomain", "evaluation.limit=2",
        "evaluation.temperature=1.0", "evaluation.seed=3", "evaluation.stop=zz",
        "judge@evaluation.judge=local",
        "+model@evaluation.judge.model=tiny", "evaluation.judge.model.seed=5",
        f"evaluation.judge.template={tmp_path / 'mine.txt'}",
    )  # fmt: skip
    execute(small_run(*overrides, "until=plan"))
    run = small_run(*overrides)
    execute(run)
    assert "held-out documents of the pool's tasks: base → tuned" in capsys.readouterr().out
    row = read_json(run.path / "result.json")
    assert row["documents"] == 10
    assert row["judge_calls"] == 0 < row["judge_tokens"]
    assert report([str(run.path), "--out", str(tmp_path / "out")]) == 0
    assert small_run(*(one for one in overrides if "template" not in one)).scores.key != run.scores.key
    assert small_run(*overrides, "evaluation.judge.batch_size=1").scores.key == run.scores.key
    assert small_run(*overrides, "evaluation.judge.model.seed=6").scores.key != run.scores.key


@dataclass(frozen=True)
class Longer:
    """Prefers the longer answer, but for what its caller tells it; ``asked`` collects what it is asked."""

    asked: list[Question] = field(default_factory=list)
    first: bool = False  # prefers what is shown first instead
    dumb: bool = False

    def prepare(self) -> Longer:
        return self

    @property
    def spent(self) -> Spent:
        return Spent(calls=2 * len(self.asked), tokens=len(self.asked))

    def __call__(self, questions: Sequence[Question]) -> list[Verdict]:
        self.asked.extend(questions)
        if self.dumb:
            return [Verdict(None, None, ("hm",)) for _ in questions]
        if self.first:
            return [Verdict(1.0, 0.0) for _ in questions]
        return [Verdict(*[float(len(q.answer) > len(q.reference))] * 2) for q in questions]


def test_a_server_of_another_name_and_another_engine_make_another_run_and_none_leaves_it_as_it_was(
    small_run: Callable[..., Run],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PLANTED_API_KEY", KEY)
    one, elsewhere, named, continuous = (
        small_run(*ENDPOINT, f"evaluation.of.judge.judge.base_url=http://{host}/v1", *more)
        for host, *more in (
            ("localhost:1",),
            ("10.0.0.1:2",),
            ("localhost:1", "evaluation.of.judge.judge.served_as=lab"),
            ("localhost:1", "evaluation.of.judge.generation=continuous"),
        )
    )
    what = one.what["evaluation"]["of"]["judge"]
    assert "generation" not in what
    assert what["judge"].keys() == {
        "_target_", "model", "pattern", "temperature", "reply_tokens", "extra", "content"
    }  # fmt: skip
    assert one.slug == elsewhere.slug
    assert len({one.slug, named.slug, continuous.slug}) == 3
    assert len({run.scores.key for run in (one, named, continuous)}) == 3
    assert {run.adapter.key for run in (one, named, continuous)} == {one.adapter.key}


@pytest.mark.parametrize("plus", ["", "+"])
def test_what_else_a_server_is_told_is_given_like_any_value_and_makes_another_run(
    small_run: Callable[..., Run],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    plus: str,
) -> None:
    monkeypatch.setenv("PLANTED_API_KEY", KEY)
    base, extra = (
        "evaluation.of.judge.judge.base_url=http://localhost:1/v1",
        "evaluation.of.judge.judge.extra",
    )
    plain, empty, told = (
        small_run(*ENDPOINT, base, *more)
        for more in ((), (f"{plus}{extra}={{}}",), (f"{plus}{extra}={{reasoning_effort: low}}",))
    )
    assert plain.slug == empty.slug != told.slug
    assert told.what["evaluation"]["of"]["judge"]["judge"]["extra"] == {"reasoning_effort": "low"}


def heldout(rows: list[dict]) -> object:
    import pyarrow as pa

    return pa.Table.from_pylist(alike([one | {"aside": False} for one in rows]))


ROWS = [row("t", i, f"Say {i}", "x" * (4 * i + 4)) for i in range(6)]


def judged(judge: Judge | Longer, **more: object) -> Judged:
    return Judged(**{"judge": judge, "limit": 6, "max_new_tokens": 8} | more)  # type: ignore[arg-type]


def test_a_judge_that_goes_by_the_place_gives_a_half(tmp_path: Path) -> None:
    judged(Longer(first=True)).evaluate(Lively(), None, heldout(ROWS), tmp_path)
    scores = read_json(tmp_path / "scores.json")
    assert (scores["mean"]["win_rate"], scores["judge"]["disagreement"], scores["judge"]["first_shown"]) == (
        0.5,
        1.0,
        1.0,
    )


def test_an_interrupted_judge_goes_on_with_what_it_has_not_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smartdpp.evaluation.judged.CHUNK", 2)
    said: list[Question] = []

    @dataclass(frozen=True)
    class Dies(Longer):
        def prepare(self) -> Dies:
            return self

        def __call__(self, questions: Sequence[Question]) -> list[Verdict]:
            if len(self.asked) == 4:
                raise KeyboardInterrupt
            return super().__call__(questions)

    with pytest.raises(KeyboardInterrupt):
        judged(Dies(said)).evaluate(Lively(), None, heldout(ROWS), tmp_path)
    assert len(said) == 4
    assert read_json(tmp_path / "judge_cost.json")["tokens"] == 4
    judged(Longer(said)).evaluate(Lively(), None, heldout(ROWS), tmp_path)
    assert len(said) == len(set(said)) == 6
    judged(Longer(said)).evaluate(Lively(), None, heldout(ROWS), tmp_path)
    assert len(said) == 6


def test_equal_answers_are_a_half_and_nobody_is_asked(tmp_path: Path) -> None:
    judge = Longer()
    judged(judge, reference="base").evaluate(Lively(), None, heldout(ROWS), tmp_path)
    scores = read_json(tmp_path / "scores.json")
    assert (judge.asked, scores["mean"]["win_rate"], scores["judge"]["equal"]) == ([], 0.5, 6)
    assert (scores["judge"]["calls"], scores["judge"]["seconds"]) == (0, 0.0)


def test_a_judge_that_says_nothing_readable_is_told_with_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none of its 6 verdicts can be read \(the first is 'hm'\)"):
        judged(Longer(dumb=True)).evaluate(Lively(), None, heldout(ROWS), tmp_path)


def test_a_conversation_is_answered_and_shown_after_its_true_history(tmp_path: Path) -> None:
    turns = [("user", "hi"), ("assistant", "hey"), ("user", "and?"), ("assistant", "ho")]
    messages = [{"role": role, "content": content} for role, content in turns]
    judge = Longer()
    spoken = row("t", 9, "hi\n\nand?", "hey\n\nho") | {"messages": messages, "tools": None}
    judged(judge).evaluate(Lively(), None, heldout([spoken]), tmp_path)
    (question,) = judge.asked
    assert question.reference == "ho"
    assert "hi" in question.instruction
    assert "hey" in question.instruction
    assert "ho" not in question.instruction.split()


def test_a_judge_of_rows_that_another_evaluation_scores_shares_them() -> None:
    for alone, beside in (
        (Heldout(tasks=["a"]), judged(Longer(), tasks=["a"])),
        (Indomain(per_task=6), judged(Longer(), instructions="indomain")),
    ):
        for of in ({"x": alone, "judge": beside}, {"judge": beside, "x": alone}):
            both = Combined(of)  # type: ignore[arg-type]
            assert both.split() == alone.split()
            rows = [row("a", i, f"prompt number {i}", str(i)) for i in range(20)]
            assert both.aside(iter(rows)) == alone.aside(iter(rows))
    with pytest.raises(InputError, match="two evaluations set rows"):
        Combined({"x": Indomain(per_task=5), "judge": judged(Longer(), instructions="indomain")})


@pytest.mark.parametrize(
    ("overrides", "wrong"),
    [
        (("evaluation.path=x.json",), "give a file of instructions with evaluation.instructions=file"),
        (("evaluation.instructions=file",), "give a file of instructions"),
        (("evaluation.reference=nowhere.jsonl",), r"reference=nowhere.jsonl: it cannot be read \(No such"),
        (("evaluation.reference=.",), r"evaluation.reference=\.: it cannot be read \(Is a directory"),
        (("evaluation.judge.template=none.txt",), "evaluation.judge.template=none.txt: it cannot be read"),
        (("evaluation.temperature=-1",), "evaluation.temperature"),
        (("+evaluation.judge.retrys=2",), "retrys"),
        (("evaluation.judge.batch_size=0",), r"evaluation\.judge\.batch_size"),
        *(
            (
                ("judge@evaluation.judge=endpoint", "evaluation.judge.base_url=http://x/v1",
                 "evaluation.judge.model=m", f"evaluation.judge.{one}", "until=plan"),
                wrong,
            )
            for one, wrong in (
                ("concurrency=0", r"evaluation\.judge\.concurrency"),
                ("max_calls=0", r"evaluation\.judge\.max_calls"),
                ("max_tokens=0", r"evaluation\.judge\.max_tokens"),
                ("timeout=0", r"evaluation\.judge\.timeout"),
                ("key_env=UNSET_JUDGE_API_KEY", "UNSET_JUDGE_API_KEY is not set"),
            )
        ),
        (("judge@evaluation.judge=reward",), r"evaluation\.judge\.path has no value"),
        (
            ("judge@evaluation.judge=endpoint", "evaluation.judge.base_url=http://x/v1",
             "evaluation.judge.model=m", "evaluation.judge.max_calls=3",
             "evaluation.tasks=[parity]", "until=scores"),
            "max_calls=3: 24 instructions are 48 calls",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_before_any_work(
    overrides: tuple[str, ...],
    wrong: str,
    small_run: Callable[..., Run],  # noqa: F811
) -> None:
    with pytest.raises(InputError, match=wrong):
        execute(small_run("evaluation=judge", *overrides))


ASKED = [{"prompt": f"Name {what}.", "response": what} for what in ("a fruit", "a tree")]


@pytest.mark.parametrize(
    ("asked", "answers", "wrong"),
    [
        ("", ASKED, r"evaluation\.path"),
        ("{not json", ASKED, r"evaluation\.path|ask\.jsonl"),
        (
            [*ASKED, ASKED[0]],
            ASKED,
            r"evaluation\.path: 1 of 3 instructions stand there more than once, first",
        ),
        (ASKED, [*ASKED, ASKED[0]], None),
        (ASKED, [*ASKED, ASKED[0] | {"response": "a pear"}], "it has two answers to the prompt of row"),
        (ASKED, [*ASKED, {"prompt": "Else?", "response": "x"}, {"prompt": "Else?", "response": "y"}], None),
        (ASKED, "", r"evaluation\.reference"),
        (ASKED, "{not json", r"evaluation\.reference|answers\.jsonl"),
        (ASKED, [{"text": "a fruit"}], r"evaluation\.reference|answers\.jsonl"),
    ],
)
def test_files_that_cannot_be_used_are_one_error_before_any_work(
    asked: str | list[dict], answers: str | list[dict], wrong: str | None, tmp_path: Path
) -> None:
    for name, rows in (("ask", asked), ("answers", answers)):
        text = rows if isinstance(rows, str) else "".join(json.dumps(one) + "\n" for one in rows)
        (tmp_path / f"{name}.jsonl").write_text(text)
    local, reference = Local(Tiny()), str(tmp_path / "answers.jsonl")
    files = {"path": str(tmp_path / "ask.jsonl"), "reference": reference, "constants": {"task": "mine"}}
    one = judged(local, instructions="file", **files)
    problems = one.check() or one.check_documents(None, None)
    if wrong is None:
        assert problems == []
        return
    (problem,) = problems
    assert re.search(wrong, problem)
    if "answers" in problem and isinstance(answers, str):  # also before there is a corpus
        assert judged(local, reference=reference).check_documents(None, None)


def test_an_instruction_that_stands_there_twice_may_have_two_references(tmp_path: Path) -> None:
    rows = [*ASKED, ASKED[0] | {"response": "a pear"}]
    path = tmp_path / "ask.jsonl"
    path.write_text("".join(json.dumps(one | {"task": "t"}) + "\n" for one in rows))
    asked, local = {"instructions": "file", "path": str(path)}, Local(Tiny())
    assert judged(local, **asked).check_documents(None, None) == []
    (problem,) = judged(local, reference="base", **asked).check_documents(None, None)
    assert "1 of 3 instructions stand there more than once, first" in problem
