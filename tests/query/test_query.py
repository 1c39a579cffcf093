"""The query of a targeted selection never holds what is scored."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smartdpp.embedding.tfidf import Tfidf
from smartdpp.errors import InputError
from smartdpp.evaluation.heldout import Heldout
from smartdpp.evaluation.scores import read_samples
from smartdpp.query import Development, File
from smartdpp.query.stage import refuse_scored
from smartdpp.report import main as report
from smartdpp.run.cell import Run
from smartdpp.run.pipeline import execute
from smartdpp.store.disk import read_json

SMALL = ("strategy=targeted", "strategy.query.per_task=3")


def query_of(run: Run) -> list[dict]:
    return [json.loads(line) for line in (run.query.path / "query.jsonl").open()]


def test_a_targeted_run_scores_no_row_of_its_query_and_no_row_that_reads_the_same(
    small_run: Callable[..., Run],
) -> None:
    run = small_run(*SMALL)
    execute(run)
    query, scored = query_of(run), read_samples(run.scores.path / "samples.jsonl")
    assert len(query) == 3
    assert {row["task"] for row in query} == {"parity"}
    assert not {row["id"] for row in query} & {sample["id"] for sample in scored}
    import pyarrow.parquet as pq

    heldout = {
        row["id"]: row["prompt"] for row in pq.read_table(run.corpus.path / "heldout.parquet").to_pylist()
    }
    assert not {row["prompt"] for row in query} & {heldout[sample["id"]] for sample in scored}
    assert read_json(run.path / "result.json")["n"] == 16
    random = small_run("strategy=random")
    execute(random)
    assert random.base.key == run.base.key, "the documents that are scored do not depend on the query"
    assert [s["id"] for s in read_samples(random.scores.path / "samples.jsonl")] == [s["id"] for s in scored]


OPTIONS = [
    *(f"strategy=targeted strategy.function={rule}" for rule in ("round_robin", "max", "mean", "less")),
    "strategy=targeted strategy.function=round_robin strategy.targets=balanced",
    "strategy=targeted strategy.function=max strategy.targets=balanced",
    "strategy=targeted strategy.function=flvmi strategy.witnesses=20",
    "strategy=tsds strategy.sigma=0 strategy.alpha=0.3 strategy.C=2.0 strategy.neighbors=20",
    "strategy=tsds strategy.sample=true",
    "strategy=uot strategy.reg=0.1 strategy.reg_pool=0.01",
    "strategy=dsir strategy.reads=prompt strategy.buckets=100 strategy.temperature=0 strategy.min_words=3",
]


@pytest.mark.parametrize("options", OPTIONS)
def test_every_way_towards_two_targets_is_planned_and_chosen(
    options: str, small_run: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    both = ("evaluation.tasks=[parity,copy]", "strategy.query.per_task=3", "until=mixture")
    run = small_run(*options.split(), *both)
    execute(small_run(*options.split(), *both[:2], "until=plan"))
    assert "choose examples of the target" in capsys.readouterr().out
    execute(run)
    facts = run.mixture.meta()["facts"]
    assert facts["n"] == 16
    assert 0 < facts["query_coverage"] <= 1
    assert facts["targets_covered"] in (0.5, 1)


def test_how_near_a_mixture_is_to_its_query_is_in_its_row_and_its_report(
    small_run: Callable[..., Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = small_run(
        "strategy=dsir", "evaluation.tasks=[parity,copy]", "strategy.query.per_task=3", "recipe=lora"
    )
    execute(run)
    assert "query coverage 0." in capsys.readouterr().out
    row = read_json(run.path / "result.json")
    X, Q = np.load(run.embedding.path / "X.npy"), np.load(run.query.path / "X.npy")
    S = Q @ X[np.load(run.mixture.path / "rows.npy")].T
    assert row["query_coverage"] == pytest.approx(np.maximum(S.max(axis=1), 0).mean(), abs=1e-5)
    nearest = {query_of(run)[q]["task"] for q in S.argmax(axis=0)}
    assert row["targets_covered"] == len(nearest) / 2
    assert report([str(run.path), "--out", str(tmp_path / "out")]) == 0
    assert "| query coverage |" in (tmp_path / "out" / "report.md").read_text()


def test_the_query_is_in_the_pools_space(small_run: Callable[..., Run]) -> None:
    run = small_run(*SMALL, "until=mixture")
    execute(run)
    X, Q = np.load(run.embedding.path / "X.npy"), np.load(run.query.path / "X.npy")
    assert Q.shape == (3, X.shape[1])
    np.testing.assert_allclose(np.linalg.norm(Q, axis=1), 1, rtol=1e-5)


def test_a_query_that_cannot_be_had_is_refused_before_the_pool_is_embedded(
    small_run: Callable[..., Run],
) -> None:
    run = small_run("strategy=targeted", "strategy.query.per_task=1000")
    with pytest.raises(InputError, match="per_task is 1000"):
        execute(run)
    assert run.corpus.finished
    assert not run.embedding.finished


def test_what_decides_the_query_decides_the_mixture(small_run: Callable[..., Run]) -> None:
    run = small_run(*SMALL)
    for other in ("strategy.query.per_task=4", "evaluation.limit=5", "evaluation.seed=1"):
        assert small_run(*SMALL, other).mixture.key != run.mixture.key
    assert (
        small_run("strategy=random", "evaluation.limit=5").mixture.key
        == small_run("strategy=random").mixture.key
    )


def rows(prompts: list[str]) -> object:
    import pyarrow as pa

    return pa.Table.from_pylist(
        [
            {"id": f"{i:02d}", "task": "t", "prompt": prompt, "response": "r"}
            for i, prompt in enumerate(prompts)
        ]
    )


@pytest.mark.parametrize("seed", range(5))
def test_prompts_that_are_scored_elsewhere_are_left_out(seed: int) -> None:
    heldout = rows([f"p{i // 3}" for i in range(30)])  # every prompt three times
    evaluation = Heldout(tasks=["t"], limit=5, seed=seed)
    from smartdpp.evaluation.tasks import documents

    scored = {
        row["prompt"] for row, _ in zip(documents(heldout.to_pylist(), 0, seed), range(5), strict=False)
    }
    left = evaluation.unscored(heldout)["t"]
    assert left
    assert not scored & {row["prompt"] for row in left}
    with pytest.raises(InputError, match=r"30, but .* rows of the held-out task 't' are not scored"):
        Development(per_task=30).rows(evaluation, heldout)


def test_a_file_with_a_heldout_prompt_is_refused(small_run: Callable[..., Run], tmp_path) -> None:
    path = tmp_path / "wanted.jsonl"
    path.write_text('{"prompt": "Is 12 a prime?"}\n{"prompt": "Is {{ 7*7 }} odd?"}\n')
    wanted = (
        "strategy=targeted",
        "query@strategy.query=file",
        f"strategy.query.path={path}",
        "until=mixture",
    )
    run = small_run(*wanted)
    execute(run)
    assert [row["prompt"] for row in query_of(run)] == ["Is 12 a prime?", "Is {{ 7*7 }} odd?"]

    import pyarrow.parquet as pq

    theirs = pq.read_table(run.corpus.path / "heldout.parquet")["prompt"][0].as_py()
    path.write_text('{"prompt": "Is 13 a prime?"}\n')
    assert small_run(*wanted).mixture.key != run.mixture.key, "a file counts by its content"
    path.write_text(json.dumps({"prompt": f" {theirs.upper()} "}) + "\n")
    with pytest.raises(InputError, match=r"1 prompts, first that of row .* must not hold what is scored"):
        small_run(*wanted)


def test_a_file_with_a_row_of_the_pool_is_refused(small_run: Callable[..., Run], tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    path = tmp_path / "wanted.jsonl"
    path.write_text('{"prompt": "Is 12 a prime?"}\n')
    wanted = ("strategy=targeted", "query@strategy.query=file", f"strategy.query.path={path}")
    run = small_run(*wanted, "until=corpus")
    execute(run)
    one, two = pq.read_table(run.corpus.path / "data.parquet")["prompt"].to_pylist()[:2]
    rows = [{"prompt": one, "response": "another answer"}, {"id": "it", "prompt": f"{two.upper()} "}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match="1 of 2 rows, first 'it', are rows of the pool"):
        small_run(*wanted)


def test_words_that_the_pool_lacks_are_told_before_anything_is_embedded(
    small_run: Callable[..., Run], tmp_path
) -> None:
    path = tmp_path / "wanted.jsonl"
    path.write_text(
        '{"prompt": "What is 3 plus 4?"}\n{"id": "q", "prompt": "Xylophon  qwertz"}\n{"prompt": " "}\n'
    )
    wanted = (
        "strategy=targeted",
        "query@strategy.query=file",
        f"strategy.query.path={path}",
        "until=mixture",
    )
    run = small_run(*wanted)
    with pytest.raises(
        InputError,
        match=r"2 of 3 prompts, first 'Xylophon  qwertz' of row 'q', hold no word that the embedding knows",
    ):
        execute(run)
    assert run.corpus.finished
    assert not run.embedding.finished
    with pytest.raises(InputError, match="hold no word"):
        small_run(*wanted)


def test_a_query_without_answers_is_refused_before_a_model_reads_the_pool(
    small_run: Callable[..., Run], tmp_path: Path
) -> None:
    path = tmp_path / "wanted.jsonl"
    path.write_text('{"prompt": "What is 3 plus 4?", "response": "7"}\n{"id": "q", "prompt": "And 5?"}\n')
    run = small_run(
        "strategy=targeted",
        "embedding=gradient",
        "embedding.dim=64",
        "query@strategy.query=file",
        f"strategy.query.path={path}",
        "until=mixture",
    )
    with pytest.raises(
        InputError, match=r"1 of 2 rows, first 'q', have no response, which this embedding reads"
    ):
        execute(run)
    assert run.corpus.finished
    assert not run.embedding.finished


@pytest.mark.parametrize("name", ["output", "completion", "answer", "targets", "target", "response"])
def test_a_querys_answers_are_read_under_their_usual_names(name: str, tmp_path: Path) -> None:
    path = tmp_path / "wanted.jsonl"
    path.write_text(json.dumps({"prompt": "6*7?", name: "42"}) + '\n{"question": "And then?"}\n')
    for columns in (None, {"prompt": "prompt"}):
        found = File(str(path), columns)
        if columns:
            path.write_text(json.dumps({"prompt": "6*7?", name: "42"}) + '\n{"prompt": "And then?"}\n')
        read = found.rows(Heldout(tasks=["t"]), rows(["p"]))
        assert [(row["prompt"], row["response"]) for row in read] == [("6*7?", "42"), ("And then?", "")]
        assert {(row["task"], row["answer"]) for row in read} == {("query", None)}


def test_a_query_whose_answer_may_be_two_fields_names_its_own_parameter(tmp_path: Path) -> None:
    path = tmp_path / "wanted.jsonl"
    path.write_text('{"prompt": "6*7?", "output": "42", "answer": "forty-two"}\n')
    with pytest.raises(InputError, match="its response could be output or answer") as refused:
        File(str(path)).rows(Heldout(tasks=["t"]), rows(["p"]))
    assert "say which with strategy.query.columns='{response: output}'" in str(refused.value)
    [row] = File(str(path), {"response": "answer"}).rows(Heldout(tasks=["t"]), rows(["p"]))
    assert row["response"] == "forty-two"
    path.write_text('{"prompt": "6*7?", "choices": ["41", "42"], "answer": "42"}\n')
    [row] = File(str(path)).rows(Heldout(tasks=["t"]), rows(["p"]))
    assert (row["response"], row["answer"]) == ("", "42"), "the right one of the choices, as in a corpus"


def test_a_querys_file_whose_answers_were_not_read_is_another(tmp_path: Path) -> None:
    from smartdpp.corpus.rows import content_hash

    def marks(record: dict, **parameters: Any) -> str:
        path = tmp_path / "wanted.jsonl"
        path.write_text(json.dumps(record) + "\n")
        return File(str(path), **parameters).fingerprint().removeprefix(content_hash(tmp_path, [path]))

    assert marks({"prompt": "p", "output": "r"}) == " recognised"
    assert marks({"prompt": "p", "output": None}) == " recognised", "the next row may have one"
    assert marks({"prompt": "p", "output": "r", "answer": "s"}) == " recognised", "it is refused now"
    assert marks({"instruction": "p", "input": "i", "output": "r"}) == " joined recognised"
    for record in ({"prompt": "p"}, {"prompt": "p", "response": "r", "output": "s"}, {"question": "p"}):
        assert marks(record) == ""
    assert marks({"prompt": "p", "choices": ["r"], "answer": "r"}) == ""
    assert marks({"prompt": "p", "output": "r"}, columns={"response": "output"}) == ""
    assert marks({"prompt": "p", "output": "r"}, constants={"response": "none"}) == ""


@pytest.mark.parametrize("min_df", [1, 2, 3])
def test_a_prompt_is_unknown_exactly_if_it_comes_out_as_zeros(min_df: int) -> None:
    pool = rows(
        ["One two three", "two three two", "three four,", "five six", "6*7 = ?", "five = ?", "seven five", ""]
    )
    prompts = ["ONE", "two", "three two", "four", "four,", "7 ?", "unheard", "", "five Three"]
    embedding = Tfidf(dim=64, min_df=min_df)
    X = embedding.prepare(pool)(rows(prompts))
    assert embedding.unknown(pool, rows(prompts)) == np.flatnonzero(~X.any(axis=1)).tolist()


def test_a_missing_file_is_named_before_any_work(small_run: Callable[..., Run]) -> None:
    with pytest.raises(InputError, match=r"strategy.query.path: there is no file or folder .*gone.jsonl"):
        small_run("strategy=targeted", "query@strategy.query=file", "strategy.query.path=gone.jsonl")


def test_scores_of_a_query_row_are_refused(tmp_path) -> None:
    (tmp_path / "query.jsonl").write_text('{"id": "a"}\n{"id": "b"}\n')
    refuse_scored(tmp_path, ["c"])
    with pytest.raises(InputError, match="1 scored documents were in the query, first 'b'"):
        refuse_scored(tmp_path, ["c", "b"])
