"""A mixture chosen in rounds while the model trains: what is chosen, what is trained, what is cached."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from smartdpp.errors import InputError
from smartdpp.functions import LogDet
from smartdpp.greedy import maximize
from smartdpp.models import Finetuned
from smartdpp.models.tokens import encode
from smartdpp.report import main as report
from smartdpp.run.cell import Run
from smartdpp.run.pipeline import execute
from smartdpp.run.stages import artifacts
from smartdpp.store.disk import read_json
from smartdpp.strategies.mixture import read, selection

ROUNDS = (
    "strategy=reselect",
    "strategy.rounds=3",
    "embedding=gradient",
    "embedding.dim=64",
    "budget=20",
    "evaluation.generate=false",
    "recipe.learning_rate=0.002",
)


def weights(run: Run, number: int) -> dict[str, np.ndarray]:
    return load_file(run.rounds[number - 1].adapter.path / "adapter_model.safetensors")


def test_every_round_continues_the_last_in_what_is_chosen_and_what_is_trained(
    small_run: Callable[..., Run],
) -> None:
    run = small_run(*ROUNDS)
    execute(run)
    chosen = [selection(this.mixture.path) for this in run.rounds]
    assert [len(some) for some in chosen] == [6, 13, 20]
    for this, some, earlier in zip(run.rounds[1:], chosen[1:], chosen, strict=False):
        X = np.load(this.embedding.path / "X.npy")
        ids = np.array(read_ids(run))
        order = np.argsort(ids, kind="stable")
        place = np.argsort(order)
        expected = maximize(
            LogDet(X[order], kernel="vmf"), len(some) - len(earlier), start=place[earlier.index]
        )
        assert some.index[: len(earlier)].tolist() == earlier.index.tolist()
        assert some.index[len(earlier) :].tolist() == order[expected.index].tolist()
    X = [np.load(this.embedding.path / "X.npy").astype(float) for this in run.rounds]
    assert 0 < np.abs(X[1] - X[0]).max() < 1
    assert (X[0] * X[1]).sum(1).min() > 0.5, (
        "one projection for all rounds: the same example stays near itself"
    )
    assert all(np.abs(weights(run, 1)[name] - weights(run, 3)[name]).max() > 0 for name in weights(run, 1))

    row, facts = read_json(run.path / "result.json"), run.adapter.meta()["facts"]
    assert row["n"] == facts["rows"] == 20
    assert row["steps"] == facts["steps"] == 1 + 1 + 1
    assert {
        "made_in/adapter round 1",
        "made_in/embedding round 2",
        "made_in/mixture round 2",
        "made_in/adapter",
    } <= set(row)
    assert len(read(run.mixture.path)) == 20


def read_ids(run: Run) -> list[str]:
    from smartdpp.run.cell import run_rows

    return run_rows(run)["id"].to_pylist()


def test_a_round_begins_with_the_weights_that_the_last_one_left(small_run: Callable[..., Run]) -> None:
    run = small_run(*ROUNDS, "recipe.learning_rate=1e-12", "recipe.weight_decay=0", "until=adapter")
    execute(run)
    for name, first in weights(run, 1).items():
        np.testing.assert_allclose(weights(run, 3)[name], first, atol=1e-8)


def test_without_renewal_the_rounds_choose_what_one_would(small_run: Callable[..., Run]) -> None:
    still = small_run(*ROUNDS, "strategy.renew=false", "until=mixture")
    once = small_run(
        *[o for o in ROUNDS if not o.startswith("strategy.rounds")], "strategy=dpp", "until=mixture"
    )
    execute(still)
    execute(once)
    assert len({this.embedding.key for this in still.rounds}) == 1
    assert selection(still.mixture.path).index.tolist() == selection(once.mixture.path).index.tolist()
    assert not still.adapter.finished, "the last round is not trained before it is asked for"


def test_random_rounds_are_one_draw(small_run: Callable[..., Run]) -> None:
    rounds = small_run(
        "strategy=reselect",
        "strategy@strategy.strategy=random",
        "strategy.renew=false",
        "budget=20",
        "until=mixture",
    )
    once = small_run("strategy=random", "budget=20", "until=mixture")
    execute(rounds)
    execute(once)
    assert selection(rounds.mixture.path).index.tolist() == selection(once.mixture.path).index.tolist()


def test_one_round_is_the_strategy_itself(small_run: Callable[..., Run]) -> None:
    run, once = (
        small_run(*ROUNDS, "strategy.rounds=1"),
        small_run(*[o for o in ROUNDS if "strategy" not in o], "strategy=dpp"),
    )
    assert run.embedding.key == once.embedding.key
    assert set(artifacts(run)) == set(artifacts(once))


def test_a_kill_between_rounds_costs_no_round(
    small_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    from smartdpp.finetune import finetune

    run = small_run(*ROUNDS)
    trained, train = [], finetune.train

    def killed_in_the_second(recipe, model, rows, out, seed, start=None, keep=None):
        if len(trained) == 1:
            trained.append("killed")
            raise KeyboardInterrupt
        trained.append(len(rows))
        return train(recipe, model, rows, out, seed, start)

    monkeypatch.setattr(finetune, "train", killed_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        execute(run)
    execute(small_run(*ROUNDS))
    assert trained == [6, "killed", 7, 7]


def test_the_plan_names_every_round(small_run: Callable[..., Run], capsys: pytest.CaptureFixture) -> None:
    execute(small_run(*ROUNDS, "until=plan"))
    plan = capsys.readouterr().out
    assert all(name in plan for name in ("mixture round 1", "adapter round 2", "embedding round 3"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["strategy=reselect", "embedding=tfidf"], "this embedding does not read the model"),
        (
            [*ROUNDS, "embedding.model={_target_: smartdpp.models.Tiny, seed: 3}"],
            "embedding.model is not the model of this run",
        ),
        ([*ROUNDS, "budget=2"], "strategy.rounds=3 needs at least one example for each round"),
        ([*ROUNDS, "strategy.rounds=0"], "strategy.rounds is 0"),
        (
            [*ROUNDS, "strategy@strategy.strategy=smart"],
            "strategy of Reselect is one of smartdpp.strategies.dpp.Dpp",
        ),
    ],
)
def test_what_cannot_be_renewed_is_refused_before_any_work(
    small_run: Callable[..., Run], overrides: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        small_run(*overrides)


def test_kmq_in_rounds_follows_what_the_trained_model_answers(
    small_run: Callable[..., Run], reward_model: Path
) -> None:
    settings = (
        "strategy=kmq_rounds",
        *(f"strategy.{one}" for one in ("clusters=4", "rounds=2", "max_new_tokens=4")),
        "budget=12",
        "evaluation.generate=false",
    )
    execute(small_run(*settings, "until=plan"))
    run = small_run(*settings)
    execute(run)
    first, last = run.rounds
    gap = np.load(last.answers.path / "gap.npy")
    rows = read(first.mixture.path).to_pylist()
    said = [json.loads(line)["answer"] for line in (last.answers.path / "generations.jsonl").open()]
    tuned = Finetuned(run.parts.model, str(first.adapter.path))
    model, tokenizer = tuned.load().eval(), tuned.tokenizer()
    assert len(gap) == len(rows) == len(said) == 6
    for row, answer, found in zip(rows, said, gap, strict=True):
        if not answer.strip():
            assert np.isnan(found)
            continue
        nll = []
        for text in (row["response"], answer):
            one = encode(tokenizer, tuned.format, row["prompt"], text)
            labels = torch.tensor([[-100] * one.n_prompt + one.ids[one.n_prompt :]])
            nll.append(float(model(input_ids=torch.tensor([one.ids]), labels=labels).loss.detach()))
        assert found == pytest.approx(nll[0] - nll[1], abs=1e-3)
    assert np.isfinite(gap).any()
    chosen, earlier = selection(last.mixture.path).index, selection(first.mixture.path).index
    assert chosen[:6].tolist() == earlier.tolist()
    assert len(set(chosen.tolist())) == 12
    assert report([str(run.path)]) == 0
    rewarded = small_run(*settings, "quality=reward", f"quality.model.path={reward_model}", "until=mixture")
    execute(rewarded)
    assert rewarded.rounds[0].mixture.path != first.mixture.path
    by_reward = np.load(rewarded.rounds[1].answers.path / "gap.npy")
    assert np.isfinite(by_reward).any()
    with pytest.raises(InputError, match="needs at least one example for each round"):
        small_run(*settings, "budget=1")
