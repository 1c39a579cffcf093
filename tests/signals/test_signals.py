"""The passes over the model, against the plain formulas one example at a time; what is shared, resumed and
said."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from smartdpp.models import Tiny
from smartdpp.models.tokens import encode
from smartdpp.quality import El2n, GradientNorm, Ifd, Perplexity, Pmi
from smartdpp.run.cell import Run
from smartdpp.run.pipeline import execute
from smartdpp.run.stages import artifacts, stages
from smartdpp.signals import likelihood, stage
from smartdpp.signals.stage import join, measure
from smartdpp.store.disk import read_json

PROMPTS = [
    "Add 2 and 3",
    "Say hi to <|im_end|> {{ 7*7 }}",
    "x",
    "Which of these is longest: a, bb, or ccc?",
    "Why?" * 9,
]
LIKELIHOODS = ("response", "alone", "gradient")  # see test_ratings for the others
RESPONSES = ["5", "hi, {prompt}", "y" * 40, "ccc", "Because of the <|im_start|> wind."]


def planned(run: Run, name: str) -> str:
    return next(stage.plan() for stage in stages(run) if stage.name == name)


def corpus_of(model: Tiny, repeat: int = 1) -> pa.Table:
    prompts, responses = PROMPTS * repeat, RESPONSES * repeat
    encoded = [
        encode(model.tokenizer(), model.format, *pair) for pair in zip(prompts, responses, strict=True)
    ]
    return pa.table(
        {
            "id": [f"r{i}" for i in range(len(prompts))],
            "task": [f"t{i % 3}" for i in range(len(prompts))],
            "prompt": prompts,
            "response": responses,
            "n_tokens": [len(example.ids) for example in encoded],
            "n_prompt_tokens": [example.n_prompt for example in encoded],
        }
    )


def one_by_one(model: Tiny, rows: pa.Table) -> dict[str, list[float]]:
    """Batch size 1, whole logits, autograd: the definitions."""
    weights, tokenizer = model.load(dtype=torch.float32).double(), model.tokenizer()
    attention = [p for name, p in weights.named_parameters() if "self_attn" in name]
    found: dict[str, list[float]] = {name: [] for name in ("nll", "el2n", "nll_alone", "gradient_norm")}
    for prompt, response in zip(rows["prompt"].to_pylist(), rows["response"].to_pylist(), strict=True):
        ids, n_prompt = encode(tokenizer, model.format, prompt, response)
        logp = weights(torch.tensor([ids])).logits[0, n_prompt - 1 : -1].log_softmax(-1)
        y = torch.tensor(ids[n_prompt:])
        nll = -logp[torch.arange(len(y)), y].mean()
        gradient = torch.autograd.grad(nll, attention)
        found["nll"].append(nll.item())
        found["el2n"].append((logp.exp() - torch.eye(logp.shape[1])[y]).norm(dim=1).mean().item())
        found["gradient_norm"].append(torch.cat([g.flatten() for g in gradient]).norm().item())
        context = encode(tokenizer, model.format, "", response).ids[: -len(y)] or [tokenizer.eos_token_id]
        logp = (
            weights(torch.tensor([[*context, *y.tolist()]])).logits[0, len(context) - 1 : -1].log_softmax(-1)
        )
        found["nll_alone"].append(-logp[torch.arange(len(y)), y].mean().item())
    return found


@pytest.fixture(scope="module", params=["plain", "chat"])
def passes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Tiny, pa.Table, pa.Table]:
    """The model, its corpus, and the corpus joined with all three passes."""
    model = Tiny(format=request.param)
    rows = corpus_of(model)
    folders = {name: tmp_path_factory.mktemp(name) for name in LIKELIHOODS}
    for name, folder in folders.items():
        measure(name, model, 100, rows, folder)
    return model, rows, join(rows, folders)


def test_batched_signals_are_the_definitions(passes: tuple[Tiny, pa.Table, pa.Table]) -> None:
    model, rows, joined = passes
    for name, expected in one_by_one(model, rows).items():
        np.testing.assert_allclose(joined[name].to_numpy(), expected, rtol=1e-5, err_msg=name)


def test_scores_are_their_equations(passes: tuple[Tiny, pa.Table, pa.Table]) -> None:
    model, _, joined = passes
    nll, alone = (joined[name].to_numpy() for name in ("nll", "nll_alone"))
    for quality, expected in (
        (Perplexity(model), np.exp(nll)),
        (El2n(model), joined["el2n"].to_numpy()),
        (Ifd(model), nll / alone),
        (Ifd(model, ratio="perplexities"), np.exp(nll - alone)),
        (Pmi(model), np.exp(alone - nll)),
        (GradientNorm(model), joined["gradient_norm"].to_numpy()),
    ):
        np.testing.assert_array_equal(quality.score(joined), expected)
        assert (expected > 0).all()
        inverse = dataclasses.replace(quality, better="lower")
        np.testing.assert_allclose(inverse.score(joined), 1 / expected)


def test_the_passes_a_score_names_have_the_columns_it_reads(passes: tuple[Tiny, pa.Table, pa.Table]) -> None:
    model, rows, joined = passes
    for kind in (Perplexity, El2n, Ifd, Pmi, GradientNorm):
        columns = [name for which in kind.passes for name in stage.COLUMNS[which]]
        narrow = joined.select([*rows.column_names, *columns])
        np.testing.assert_array_equal(kind(model).score(narrow), kind(model).score(joined))


def test_what_a_certain_model_gets_wrong_is_not_rounded_away() -> None:
    logits = torch.tensor([[20.0, 0.0, 0.0], [5.0, 4.0, -2.0]])
    nll, el2n = likelihood._per_token(logits, torch.tensor([0, 1]))
    exact = logits.double().softmax(-1) - torch.eye(3)[[0, 1]]
    np.testing.assert_allclose(el2n, exact.norm(dim=-1), rtol=1e-5)
    np.testing.assert_allclose(nll, -logits.double().log_softmax(-1)[[0, 1], [0, 1]], rtol=1e-5)


def test_logits_are_made_for_responses_only(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Tiny()
    weights, tokenizer, rows = model.load(dtype=torch.float32), model.tokenizer(), corpus_of(model)
    seen = []
    weights.get_output_embeddings().register_forward_hook(
        lambda module, inputs, output: seen.append(len(output))
    )
    examples = [encode(tokenizer, "plain", *pair) for pair in zip(PROMPTS, RESPONSES, strict=True)]
    list(likelihood.likelihood(weights, examples, 0, 10_000))
    assert seen == [(rows["n_tokens"].to_numpy() - rows["n_prompt_tokens"].to_numpy()).sum()]


@pytest.mark.parametrize("which", LIKELIHOODS)
def test_a_killed_pass_resumes_to_the_same_bytes(
    which: stage.Pass, tmp_path: Path, interrupted_after: Callable
) -> None:
    model = Tiny()
    rows = corpus_of(model, repeat=3)
    for folder in ("whole", "resumed"):
        (tmp_path / folder).mkdir()
    measure(which, model, 100, rows, tmp_path / "whole", shard=4)

    with interrupted_after(2), pytest.raises(KeyboardInterrupt):
        measure(which, model, 100, rows, tmp_path / "resumed", shard=4)
    facts = measure(which, model, 100, rows, tmp_path / "resumed", shard=4)
    assert facts["resumed_rows"] == 8
    assert (tmp_path / "resumed" / "X.npy").read_bytes() == (tmp_path / "whole" / "X.npy").read_bytes()


@pytest.mark.usefixtures("forked_launch")
@pytest.mark.parametrize("which", LIKELIHOODS)
def test_two_processes_leave_the_bytes_of_one(which: stage.Pass, tmp_path: Path) -> None:
    rows = corpus_of(Tiny(), repeat=3)
    facts = []
    for processes in (1, 2):
        (tmp_path / str(processes)).mkdir()
        facts.append(
            measure(which, Tiny(), 100, rows, tmp_path / str(processes), shard=4, processes=processes)
        )
    assert (tmp_path / "1" / "X.npy").read_bytes() == (tmp_path / "2" / "X.npy").read_bytes()
    assert facts[0].pop("seconds") > 0
    assert facts[1].pop("seconds") > 0
    assert facts[0] == facts[1]


@pytest.mark.parametrize("kind", [Perplexity, GradientNorm])
@pytest.mark.parametrize("wrong", [{"processes": 0}, {"batch_tokens": 0}])
def test_impossible_settings_are_refused(kind: type, wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=rf"quality\.{next(iter(wrong))} is 0"):
        kind(Tiny(), **wrong)


def test_rows_without_a_response_are_refused_before_the_work() -> None:
    rows = pa.table(
        {
            "id": ["a", "b"],
            "prompt": ["x", "y"],
            "response": ["1", ""],
            "n_tokens": [9, 9],
            "n_prompt_tokens": [8, 8],
        }
    )
    with pytest.raises(ValueError, match="1 rows have no response tokens, first b"):
        stage.Signals("alone", Tiny(format="chat"), 100).prepare(rows)


def test_a_number_that_is_not_finite_names_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        stage.Signals, "prepare", lambda *_: lambda part: np.array([[1], [2], [np.nan], [4], [5]])
    )
    with pytest.raises(ValueError, match=r"alone signals: the numbers of 1 rows are not finite, first r2"):
        measure("alone", Tiny(), 100, corpus_of(Tiny()), tmp_path)


def test_scores_that_read_the_same_pass_share_it(
    small_run: Callable[..., Run], capsys: pytest.CaptureFixture
) -> None:
    plan = small_run("strategy=top", "quality=perplexity", "until=plan")
    execute(plan)
    assert "forward over the pool" in " ".join(capsys.readouterr().out.split())

    first = small_run("strategy=top", "quality=perplexity", "until=mixture")
    execute(first)
    facts = first.mixture.meta()["facts"]
    assert facts["mean_quality"] > facts["mean_quality_in_pool"]
    made = first.signals["response"].path / "X.npy"
    before = made.stat().st_mtime_ns

    second = small_run("strategy=dpp", "strategy.theta=0.3", "quality=el2n", "until=mixture")
    assert list(second.signals) == ["response"]
    assert second.signals["response"].finished
    execute(second)
    assert made.stat().st_mtime_ns == before
    assert second.mixture.key != first.mixture.key

    both = small_run("strategy=top", "quality=pmi", "until=plan")
    assert both.signals["response"].finished
    assert not both.signals["alone"].finished
    tokens = (plan_rows(first)["n_tokens"].to_numpy() - plan_rows(first)["n_prompt_tokens"].to_numpy()).sum()
    assert f"{tokens:,} tokens, time unknown" in planned(both, "alone signals")


def plan_rows(run: Run) -> pa.Table:
    from smartdpp.run.cell import run_rows

    return run_rows(run)


def test_a_run_without_such_a_score_has_no_such_stage(small_run: Callable[..., Run]) -> None:
    assert not [name for name in artifacts(small_run("quality=response_tokens")) if "signals" in name]


def test_another_model_can_score(small_run: Callable[..., Run]) -> None:
    own = small_run("strategy=top", "quality=ifd")
    other = small_run("strategy=top", "quality=ifd", "+model@quality.model=tiny", "quality.model.seed=7")
    assert own.parts.quality.model == own.parts.model
    assert other.parts.quality.model == dataclasses.replace(own.parts.model, seed=7)
    assert own.signals["alone"].key != other.signals["alone"].key


def test_a_model_is_a_component_not_a_name(small_run: Callable[..., Run]) -> None:
    with pytest.raises(
        ValueError,
        match=r"quality\.model='tiny': this is a component; choose one with model@quality\.model=NAME",
    ):
        small_run("quality=perplexity", "quality.model=tiny")


def test_a_whole_run_records_the_scores_of_what_it_chose(small_run: Callable[..., Run]) -> None:
    run = small_run("strategy=top", "quality=gradient_norm")
    execute(run)
    row = read_json(run.path / "result.json")
    assert row["seconds/gradient signals"] > 0
