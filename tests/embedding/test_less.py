"""embedding=less and trajectory: what they keep is what a straight reading of the equations gives, from
checkpoints that survive a kill."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from smartdpp.embedding.less import Less
from smartdpp.embedding.shards import embed, load
from smartdpp.embedding.trajectory import Trajectory
from smartdpp.embedding.warmup import Warmup, drawn, train
from smartdpp.errors import InputError
from smartdpp.finetune import Finetune
from smartdpp.models import Tiny
from smartdpp.models.checkpoints import checkpoints
from smartdpp.models.turns import encode_row
from smartdpp.report import main as report
from smartdpp.run.cell import Run, run_rows
from smartdpp.run.pipeline import execute
from smartdpp.run.price import total
from smartdpp.run.stages import artifacts, stages
from smartdpp.store.disk import read_json
from smartdpp.strategies.mixture import selection

N = 24
ROWS = pa.table(
    {
        "id": [f"r{i:02d}" for i in range(N)],
        "prompt": [f"What is {i} plus {i}? {'Think. ' * (i % 4)}" for i in range(N)],
        "response": [str(2 * i) for i in range(N)],
        "n_tokens": [30 + i for i in range(N)],
    }
)
RECIPE = Finetune(
    rank=4, epochs=2, batch_size=4, micro_batch_size=4, learning_rate=5e-3, scheduler="linear", warmup=0.2
)
WARMUP = Warmup(RECIPE, share=0.5, seed=3)
LESS = Less(Tiny(), WARMUP, dim=64, store="float32", batch_tokens=256)


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("warm")
    train(WARMUP, Tiny(), ROWS, out)
    return out


def straight(folder: Path, row: dict, form: str) -> np.ndarray:
    """Γ of one row at one checkpoint: autograd's gradient of every adapter weight, then the formula of the
    paper's code, or the same with V of rank one."""
    model = PeftModel.from_pretrained(Tiny().load(), folder, is_trainable=True).eval()
    example = encode_row(Tiny().tokenizer(), "plain", row)
    ids, labels = torch.tensor([example.ids]), torch.tensor([example.labels])
    logits = model(ids).logits[0, :-1]
    torch.nn.functional.cross_entropy(logits, labels[0, 1:], ignore_index=-100).backward()
    kept, parts = load_file(folder / "moments.safetensors"), []
    for name, p in model.named_parameters():
        if p.grad is None:
            continue
        m, v = (kept[f"{name}/{letter}"].double() for letter in "mv")
        g = p.grad.double()
        if form == "adam_exact":
            g = (0.9 * m + 0.1 * g) / (0.999 * v + 0.001 * g**2 + 1e-8).sqrt()
        if form == "adam_rank_one":
            V = 0.999 * v + 1e-8
            g = (0.9 * m + 0.1 * g) / (torch.outer(V.sum(1), V.sum(0)) / V.sum()).sqrt()
        parts.append(g.flatten().numpy())
    return np.concatenate(parts)


def influence(warm: Path, i: int, j: int, form: str) -> float:
    """Σ_e η_e <Γ_ie, g_je> of normalised vectors, η_e the mean of the schedule's rates since the checkpoint
    before, over their sum."""
    rates = [json.loads(line)["learning_rate"] for line in (warm / "log.jsonl").open()]
    eta = [np.mean(rates[:3]), np.mean(rates[3:])]
    score = 0.0
    for e, step in enumerate((3, 6)):
        folder = warm / f"step-{step:07d}"
        pool, query = straight(folder, row(i), form), straight(folder, row(j), "none")
        score += eta[e] / sum(eta) * pool @ query / np.linalg.norm(pool) / np.linalg.norm(query)
    return score


def row(i: int) -> dict:
    return ROWS.slice(i, 1).to_pylist()[0]


@pytest.mark.parametrize("form", ["none", "adam_rank_one", "adam_exact"])
def test_inner_products_of_pool_and_query_are_those_of_the_equations(form, warm: Path) -> None:
    exact = replace(LESS, preconditioner=form, projection="exact").after(warm)
    X = exact.prepare(ROWS)(ROWS.slice(0, 4))
    Q = exact.for_query().prepare(ROWS)(ROWS.slice(10, 2))
    np.testing.assert_allclose(np.linalg.norm(X, axis=1), 1, rtol=1e-5)
    expected = [[influence(warm, i, j, form) for j in (10, 11)] for i in range(4)]
    np.testing.assert_allclose(X @ Q.T, expected, atol=2e-4)


@pytest.mark.parametrize("form", ["none", "adam_rank_one", "adam_exact"])
def test_the_sketch_of_the_pools_side_meets_that_of_the_querys(form, warm: Path) -> None:
    """One projection for both sides and all forms: their inner products would else be noise about zero."""

    def products(**own) -> np.ndarray:
        by = replace(LESS, preconditioner=form, **own).after(warm)
        return by.prepare(ROWS)(ROWS) @ by.for_query().prepare(ROWS)(ROWS).T

    found, exact = products(dim=4096), products(projection="exact")
    assert np.abs(found - exact).max() < 0.05
    assert np.corrcoef(found.ravel(), exact.ravel())[0, 1] > 0.99


def test_adams_forms_differ_from_the_plain_one_on_the_pools_side_alone(warm: Path) -> None:
    forms = {form: replace(LESS, preconditioner=form).after(warm) for form in ("none", "adam_rank_one")}
    X = {form: by.prepare(ROWS)(ROWS) for form, by in forms.items()}
    Q = {form: by.for_query().prepare(ROWS)(ROWS) for form, by in forms.items()}
    assert np.abs(X["none"] - X["adam_rank_one"]).max() > 0.1
    np.testing.assert_array_equal(Q["none"], Q["adam_rank_one"])
    np.testing.assert_array_equal(Q["none"], X["none"])


def test_a_checkpoint_an_epoch_with_adams_moments_and_the_mean_learning_rate(warm: Path) -> None:
    kept = checkpoints(warm)
    assert [one.step for one in kept] == [3, 6]
    rates = [json.loads(line)["learning_rate"] for line in (warm / "log.jsonl").open()]
    np.testing.assert_allclose([one.learning_rate for one in kept], [np.mean(rates[:3]), np.mean(rates[3:])])
    last, final = (load_file(at / "adapter_model.safetensors") for at in (kept[1].path, warm))
    assert all(torch.equal(last[name], final[name]) for name in final)
    assert not list(warm.rglob("meta.json"))


def test_after_one_step_the_moments_are_its_gradient_and_its_square(tmp_path: Path) -> None:
    train(replace(WARMUP, every=1), Tiny(), ROWS, tmp_path)
    assert [one.step for one in checkpoints(tmp_path)] == [1, 2, 3, 4, 5, 6]
    found = load_file(tmp_path / "step-0000001" / "moments.safetensors")
    for name in [name for name in found if name.endswith("/m")]:
        g = found[name] / 0.1
        torch.testing.assert_close(found[name[:-1] + "v"], 0.001 * g**2, rtol=1e-3, atol=1e-12)


def test_the_share_is_drawn_by_seed_whatever_the_tables_order() -> None:
    some = drawn(WARMUP, ROWS)["id"].to_pylist()
    assert len(set(some)) == 12
    assert drawn(WARMUP, ROWS.take(list(range(N))[::-1]))["id"].to_pylist() == some
    assert drawn(replace(WARMUP, seed=4), ROWS)["id"].to_pylist() != some
    assert drawn(replace(WARMUP, share=0.25), ROWS)["id"].to_pylist() == some[:6]


@pytest.mark.parametrize(("at", "damaged"), [(2, False), (4, False), (5, True)])
def test_a_killed_warm_up_goes_on_and_leaves_the_same_checkpoints(
    at: int, damaged: bool, warm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import Trainer

    step, steps = Trainer.training_step, []

    def stopped(self, *args, **kwargs):
        if self.state.global_step == at:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    def counted(self, *args, **kwargs):
        steps.append(self.state.global_step)
        return step(self, *args, **kwargs)

    often = replace(WARMUP, recipe=replace(RECIPE, save_steps=1))
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "training_step", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(often, Tiny(), ROWS, tmp_path)
    if damaged:  # what the first epoch left: nothing can go on from a later step then
        (tmp_path / "step-0000003" / "moments.safetensors").write_bytes(b"")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "training_step", counted)
        train(often, Tiny(), ROWS, tmp_path)
    assert steps[0] == (0 if damaged else at)
    for one in checkpoints(warm):
        for name in ("adapter_model.safetensors", "moments.safetensors"):
            first, again = load_file(one.path / name), load_file(tmp_path / one.path.name / name)
            assert all(torch.equal(first[key], again[key]) for key in first)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_trajectory_is_the_loss_at_every_checkpoint(method, tmp_path: Path) -> None:
    warmup = replace(WARMUP, recipe=replace(RECIPE, method=method))
    train(warmup, Tiny(), ROWS, tmp_path)
    (tmp_path / "X").mkdir()
    facts = embed(Trajectory(Tiny(), warmup).after(tmp_path), ROWS, tmp_path / "X", shard=16)
    X = load(tmp_path / "X")
    assert (facts["n"], facts["d"]) == (N, 2)
    for e, one in enumerate(checkpoints(tmp_path)):
        from smartdpp.models.finetuned import load_finetuned

        model = load_finetuned(Tiny(), one.path).eval()
        for i in (0, 20):
            example = encode_row(Tiny().tokenizer(), "plain", row(i))
            logits = model(torch.tensor([example.ids])).logits[0, :-1]
            loss = torch.nn.functional.cross_entropy(
                logits, torch.tensor(example.labels[1:]), ignore_index=-100
            )
            assert X[i, e] == pytest.approx(loss.item(), rel=1e-4)
    assert (X[:, 1] < X[:, 0]).mean() > 0.5


def test_a_loss_that_is_no_number_counts_as_zero_and_is_told(
    warm: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from smartdpp.embedding import trajectory

    likelihood = trajectory.likelihood

    def broken(*given):
        for batch, nll, el2n in likelihood(*given):
            yield batch, np.where(batch.rows == 7, np.nan, nll), el2n

    monkeypatch.setattr(trajectory, "likelihood", broken)
    X = Trajectory(Tiny(), WARMUP).after(warm).prepare(ROWS)(ROWS)
    assert X[7].tolist() == [0, 0]
    assert (np.delete(X, 7, axis=0) > 0).all()
    assert "2 losses of 1 rows are no numbers and count as 0, first of row r07" in caplog.text


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: replace(WARMUP, share=0), "share is 0: it is a share of the pool, above 0"),
        (lambda: replace(WARMUP, share=1.5), "share is 1.5"),
        (lambda: replace(WARMUP, every=0), "at least 1 step"),
        (lambda: replace(LESS, dim=0), "embedding.dim is 0"),
        (lambda: replace(LESS, warmup=Warmup(Finetune(method="full"))), "use method=lora"),
        (lambda: LESS.prepare(ROWS), "which only a run makes"),
        (lambda: Trajectory(Tiny(), WARMUP).prepare(ROWS), "which only a run makes"),
        (lambda: train(replace(WARMUP, share=0.01), Tiny(), ROWS, Path()), "of a pool of 24 examples"),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(wrong: Callable[[], object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        wrong()


IN_A_RUN = (
    "strategy=targeted",
    "strategy.function=less",
    "strategy.query.per_task=3",
    "embedding=less",
    "embedding.dim=32",
    "embedding.warmup.share=0.2",
    "embedding.warmup.recipe.epochs=2",
    "embedding.warmup.recipe.save_steps=1",
    "evaluation.generate=false",
)


def test_a_run_warms_up_once_and_goes_on_after_a_kill_in_it(
    small_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from transformers import Trainer

    execute(small_run(*IN_A_RUN, "until=corpus"))
    execute(small_run(*IN_A_RUN, "until=plan"))
    assert "warm-up" in capsys.readouterr().out
    (planned,) = (stage for stage in stages(small_run(*IN_A_RUN)) if stage.name == "warm-up")
    assert "finetune on a share of 96 examples, for less: 38 examples, about" in planned.plan()
    assert planned.memory() is not None
    assert "2 trainings to do, 54 examples" in total([small_run(*IN_A_RUN)])
    step, steps = Trainer.training_step, []

    def killed(self, *args, **kwargs):
        if len(steps) == 2:
            raise KeyboardInterrupt
        steps.append(self.state.global_step)
        return step(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "training_step", killed)
        with pytest.raises(KeyboardInterrupt):
            execute(small_run(*IN_A_RUN))
    run = small_run(*IN_A_RUN)
    assert not run.warmups["embedding"].finished
    execute(run)
    facts = run.warmups["embedding"].meta()["facts"]
    n = run.corpus.meta()["facts"]["n_pool"]
    assert (facts["rows"], facts["n_pool"]) == (round(0.2 * n), n)
    X = np.load(run.embedding.path / "X.npy").astype(float)
    Q = np.load(run.query.path / "X.npy").astype(float)
    assert X.shape == (n, 2 * 32)
    assert Q.shape == (3, 2 * 32)
    np.testing.assert_allclose(np.linalg.norm(X, axis=1), 1, atol=1e-3)
    heldout = set(run_rows(run, "heldout")["id"].to_pylist())
    assert not heldout & set(drawn(run.parts.embedding.warmup, run_rows(run))["id"].to_pylist())
    S = (X / np.linalg.norm(X, axis=1)[:, None]) @ (Q / np.linalg.norm(Q, axis=1)[:, None]).T
    near = S.mean(1)  # one task
    chosen = selection(run.mixture.path)
    np.testing.assert_allclose(chosen.gain, np.sort(near)[::-1][: len(chosen)], atol=1e-3)
    row = read_json(run.path / "result.json")
    assert row["made_in/warm-up"] > 0
    assert report([str(run.path)]) == 0
    other = small_run(*IN_A_RUN, "embedding.preconditioner=none", "embedding.dim=16")
    assert other.warmups["embedding"].key == run.warmups["embedding"].key
    assert other.embedding.key != run.embedding.key
    again = small_run(*IN_A_RUN, "embedding.warmup.seed=1")
    assert again.query.key != run.query.key


@pytest.mark.usefixtures("forked_launch")
def test_warm_up_and_gradients_in_two_processes_are_those_of_one(tmp_path: Path) -> None:
    found = []
    for processes in (1, 2):
        warm, out = tmp_path / f"warm{processes}", tmp_path / f"X{processes}"
        warm.mkdir(), out.mkdir()
        warmup = replace(WARMUP, recipe=replace(RECIPE, processes=processes))
        train(warmup, Tiny(), ROWS, warm)
        kept = checkpoints(warm)
        embed(replace(LESS, warmup=warmup).after(warm), ROWS, out, shard=8, processes=processes)
        found.append(([one.learning_rate for one in kept], np.asarray(load(out), dtype=np.float64)))
    (rates, one), (also, two) = found
    assert rates == pytest.approx(also)
    np.testing.assert_allclose(two, one, atol=1e-3)


def test_a_share_of_no_row_is_told_before_anything_is_trained(small_run: Callable[..., Run]) -> None:
    run = small_run(*IN_A_RUN, "embedding.warmup.share=0.001")
    with pytest.raises(InputError, match=r"embedding.warmup.share=0.001: of a pool of \d+ examples"):
        execute(run)
    with pytest.raises(InputError, match=r"embedding.warmup.recipe.target_modules=\['nothing'\]"):
        small_run(*IN_A_RUN, "embedding.warmup.recipe.target_modules=[nothing]")


def test_a_probe_has_a_warm_up_of_its_own_unless_it_is_the_embeddings(small_run: Callable[..., Run]) -> None:
    same = small_run(*IN_A_RUN, "embedding@probe=less", "probe.dim=32")
    assert "probe warm-up" in artifacts(same)
    alone = small_run("strategy=random", "embedding@probe=less", "probe.dim=32")
    assert list(artifacts(alone))[2:5] == ["embedding", "probe warm-up", "probe embedding"]
