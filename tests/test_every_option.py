"""Options of all groups together, in combinations that a seed draws: each runs to its end and can be planned,
shown and reported."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from smartdpp.config.compose import conf_dir
from smartdpp.errors import InputError
from smartdpp.report import main as report
from smartdpp.run.alone import prepared
from smartdpp.run.cell import Run
from smartdpp.run.pipeline import execute
from smartdpp.run.stages import stages
from smartdpp.store.disk import read_json

SEED = 15  # another one draws other combinations
# options that need what a test machine lacks: a fetch, a GPU, a cluster; test_conf composes them
ELSEWHERE = {
    "corpus": {"arena", "flan2022", "hub", "reasoning_gym"},
    "embedding": {"gte_large", "minilm", "sentence"},
    "model": {"falcon_7b", "hub", "llama2_7b", "llama_7b", "mistral_7b", "qwen3_0_6b", "smollm2_135m"},
    "recipe": {"qlora", "smart_fsdp"},
    "evaluation": {"bbh", "ifeval", "mmlu"},
    "runtime": {"ray"},
    "tracker": {"wandb"},
}
NEEDS = {
    "corpus=jsonl": ["corpus.path={train}", "corpus.columns={{score: rating}}"],
    "corpus=arena_file": [
        "corpus.path={train}",
        "corpus.target=[add,copy]",
        "corpus.others=[first,parity]",
        *(f"corpus.{one}" for one in ("documents=3", "per_target=8", "per_other=12", "mismatched=0.2")),
    ],
    "embedding=tfidf": ["embedding.dim=8"],
    "embedding=gradient": ["embedding.dim=64"],
    "embedding=less": [
        "embedding.dim=16",
        "embedding.warmup.share=0.1",
        "embedding.warmup.recipe.epochs=2",
        "recipe@embedding.warmup.recipe=less",
    ],
    "embedding=trajectory": ["embedding.warmup.share=0.1", "embedding.warmup.recipe.epochs=2"],
    "evaluation=heldout": ["evaluation.tasks=[parity]", "evaluation.limit=2", "evaluation.max_new_tokens=2"],
    "evaluation=ability": [
        *(f"evaluation.{one}" for one in ("tasks=[parity]", "limit=3", "max_new_tokens=2")),
        "evaluation.generation=continuous",
    ],
    "evaluation=combined": [
        "evaluation.of.heldout.tasks=[parity]",
        *(f"evaluation.of.heldout.{one}" for one in ("limit=2", "max_new_tokens=2")),
        *(f"evaluation.of.indomain.{one}" for one in ("per_task=1", "max_new_tokens=2")),
    ],
    "evaluation=judge": [
        *(f"evaluation.{one}" for one in ("tasks=[parity]", "limit=2", "max_new_tokens=2")),
        "evaluation.generation=continuous",
    ],
    "evaluation=indomain": [
        *(f"evaluation.{one}" for one in ("per_task=2", "spare=1", "max_new_tokens=2", "contrast=true"))
    ],
    "evaluation=indomain_file": [
        "evaluation.path={of_pool}",
        "evaluation.limit=2",
        "evaluation.generate=false",
        "evaluation.contrast=true",
    ],
    "evaluation=jsonl": [
        "evaluation.path={heldout}",
        "evaluation.limit=2",
        "evaluation.num_fewshot=1",
        "evaluation.generate=false",
    ],
    "evaluation=harness": [
        "evaluation.tasks=[odd]",
        "evaluation.include_path={lm_eval}",
        "evaluation.data_dir={lm_eval}",
    ],
    "quality=reward": ["quality.model.path={reward}"],
    "strategy=smart": ["strategy.num_tasks=2"],
    **{
        f"strategy={name}": ["query@strategy.query=file", "strategy.query.path={query}"]
        for name in ("targeted", "tsds", "uot", "dsir", "decile")
    },
    "strategy=weights": ["strategy.weights={{copy: 0.7, add: 0.3}}"],
    "strategy=reselect": ["embedding=gradient", "embedding.dim=64", "strategy.rounds=2"],
    "strategy=kmq_rounds": ["strategy.rounds=2", "strategy.clusters=3", "strategy.max_new_tokens=2"],
    "task_vector=task2vec": ["task_vector.examples=4"],
}
REFUSED = (  # what two options may say of each other
    r"strategy\.num_tasks",
    r"strategy\.query: this evaluation has no rows beside those it scores",
)


def options(group: str) -> list[str]:
    return sorted(
        path.stem for path in (conf_dir() / group).glob("*.yaml") if path.stem not in ELSEWHERE.get(group, ())
    )


GROUPS = (
    "corpus",
    "embedding",
    "quality",
    "task_vector",
    "strategy",
    "model",
    "recipe",
    "evaluation",
    "diversity",
    "runtime",
    "tracker",
)


def combinations() -> list[dict[str, str]]:
    """As many as the largest group has options, so that every option is in one; which ones meet is drawn."""
    draw = random.Random(SEED)
    columns = {}
    most = max(len(options(group)) for group in GROUPS)
    for group in GROUPS:
        names = options(group)
        columns[group] = [name for _ in range(most) for name in draw.sample(names, len(names))][:most]
    return [{group: columns[group][i] for group in GROUPS} for i in range(most)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, reward_model: Path) -> Path:
    folder, draw = tmp_path_factory.mktemp("every"), random.Random(1)

    def write(name: str, rows: list[dict]) -> None:
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    def made(task: str) -> dict:
        n = draw.randint(1, 9999)
        return {
            "task": task,
            "prompt": f"{task} of {n} and {draw.randint(1, 99)}?",
            "response": f"{n % 7} {task}",
            "rating": n % 5 + 1,
        }

    write("train.jsonl", [made(task) for task in ("add", "copy", "first", "parity") for _ in range(12)])
    write("heldout.jsonl", [made("other") | {"choices": ["yes", "no"], "answer": "no"} for _ in range(4)])
    write("of_pool.jsonl", [made("copy") for _ in range(4)])
    write("query.jsonl", [made("add") for _ in range(3)])
    (folder / "reward").symlink_to(reward_model)
    (folder / "lm_eval").mkdir()
    write("lm_eval/odd.json", [{"question": f"is {i} odd?", "label": i % 2} for i in range(3)])
    (folder / "lm_eval" / "odd.yaml").write_text(
        "task: odd\ndataset_path: json\ndataset_kwargs: {data_files: {test: odd.json}}\ntest_split: "
        "test\noutput_type: multiple_choice\n"
        'doc_to_text: "{{question}}"\ndoc_to_choice: ["no", "yes"]\ndoc_to_target: label\n'
        "metric_list:\n  - {metric: acc, aggregation: mean, higher_is_better: true}\n"
    )
    return folder


def run_of(folder: Path, choice: dict[str, str], *more: str) -> Run:
    places = {name: folder / f"{name}.jsonl" for name in ("train", "heldout", "of_pool", "query")} | {
        "lm_eval": folder / "lm_eval",
        "reward": folder / "reward",
    }
    chosen = [f"{group}={name}" for group, name in choice.items()]
    if choice["strategy"] == "reselect":
        chosen = [one for one in chosen if not one.startswith("embedding=")]
    needed = [need.format(**places) for one in chosen for need in NEEDS.get(one, [])]
    overrides = [
        *chosen,
        *needed,
        "embedding@probe=tfidf",
        "probe.dim=8",
        "budget=6",
        f"root={folder / 'root'}",
        *more,
    ]
    return prepared(overrides)


def test_every_option_that_works_here_is_in_a_combination() -> None:
    drawn = combinations()
    for group in GROUPS:
        assert {choice[group] for choice in drawn} == set(options(group)) != set()


@pytest.mark.parametrize("choice", combinations(), ids=lambda choice: "-".join(choice.values()))
def test_a_combination_runs_to_its_end_and_can_be_planned_shown_and_reported(
    choice: dict[str, str], folder: Path, capsys: pytest.CaptureFixture, undrawn: None
) -> None:
    refused: InputError | None = None
    try:
        execute(run_of(folder, choice, "until=plan"))
        run = run_of(folder, choice)
        score = execute(run)
    except InputError as error:
        refused = error
    if refused:
        assert re.search("|".join(REFUSED), str(refused)), refused
        return
    row = read_json(run.path / "result.json")
    scored = choice["evaluation"] != "none"
    assert score == row["score"] == (row[row["score_metric"]] if scored else None)
    assert (
        row["n"]
        == run.mixture.meta()["facts"]["n"]
        == (36 if row["strategy"] == "full" and choice["evaluation"] == "heldout" else row["n"])
    )
    assert ("mean, tuned" if scored else "nothing was evaluated") in capsys.readouterr().out
    for stage in stages(run):
        assert stage.describe(stage.artifact.meta()["facts"]) or stage.name == "diversity"
    execute(run_of(folder, choice, "until=plan"))
    assert "to do" not in capsys.readouterr().out
    assert execute(run_of(folder, choice)) == score
    assert report([str(run.path)]) == 0


def test_all_of_them_share_a_report(folder: Path, tmp_path: Path) -> None:
    runs = sorted(path.parent for path in (folder / "root" / "runs").glob("*/result.json"))
    assert len(runs) > 3
    assert report([*map(str, runs), "--out", str(tmp_path)]) == 0
