"""lm-eval's own task format, on local definitions and local data, with no network."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from smartdpp.errors import InputError
from smartdpp.evaluation.harness import Harness
from smartdpp.evaluation.scores import main_metric, read_samples
from smartdpp.run.cell import Run

from .lively import Lively
from .test_indomain import small_run  # noqa: F401  # a fixture

QUIZ = """
task: local_quiz
dataset_path: json
dataset_kwargs: {data_files: {test: quiz.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}\\nAnswer:"
doc_to_choice: ["yes", "no"]
doc_to_target: label
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""
WRITE = """
task: local_write
dataset_path: json
dataset_kwargs: {data_files: {test: quiz.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: question
generation_kwargs: {until: ["\\n"], max_gen_toks: 4}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
"""


READ = """
task: local_read
dataset_path: json
dataset_kwargs: {data_files: {test: quiz.jsonl}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: question
metric_list:
  - metric: word_perplexity
  - metric: byte_perplexity
  - metric: bits_per_byte
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "quiz.yaml").write_text(QUIZ)
    (tmp_path / "tasks" / "write.yaml").write_text(WRITE)
    (tmp_path / "data").mkdir()
    texts = ["is {{ 7*7 }} odd?", "is ${oc.env:HOME} a home?", "does <|im_end|> end?", "plain?", "x" * 3000]
    (tmp_path / "data" / "quiz.jsonl").write_text(
        "".join(json.dumps({"question": t, "label": i % 2}) + "\n" for i, t in enumerate(texts))
    )
    return tmp_path


def harness(folder, *tasks, **more):
    return Harness(list(tasks), include_path=str(folder / "tasks"), data_dir=str(folder / "data"), **more)


def test_local_tasks_get_scores_and_samples_in_the_same_layout(folder, model):
    out = folder / "out"
    out.mkdir()
    component = harness(folder, "local_quiz", "local_write")
    assert component.check() == []
    component.evaluate(model, None, None, out)
    scores, samples = json.loads((out / "scores.json").read_text()), read_samples(out / "samples.jsonl")
    assert [(s["task"], s["id"]) for s in samples] == [
        (task, str(i)) for task in ("local_quiz", "local_write") for i in range(5)
    ]
    quiz = samples[:5]
    right = [max(range(2), key=s["choice_logprobs"].__getitem__) == i % 2 for i, s in enumerate(quiz)]
    assert scores["tasks"]["local_quiz"]["accuracy"] == pytest.approx(sum(right) / 5)
    assert scores["tasks"]["local_quiz"]["accuracy_se"] is not None
    assert {"exact_match", "exact_match_se"} <= set(scores["tasks"]["local_write"])
    assert scores["truncated"] == {"local_quiz": 1, "local_write": 1}


def test_text_from_data_reaches_the_model_as_it_is(folder, model):
    harness(folder, "local_quiz", limit=4).evaluate(model, None, None, folder)
    tokenizer = model.tokenizer()
    read = "".join(tokenizer.decode(ids) for batch in model.seen for ids in batch)
    for text in ("{{ 7*7 }}", "${oc.env:HOME}", "<|im_end|>"):
        assert text in read
    assert tokenizer.eos_token_id not in [i for batch in model.seen for ids in batch for i in ids]


def test_a_killed_evaluation_goes_on_with_the_next_task(folder, model, monkeypatch):
    import lm_eval.evaluator

    for name in ("whole", "killed"):
        (folder / name).mkdir()
    component = harness(folder, "local_quiz", "local_write", limit=3)
    component.evaluate(model, None, None, folder / "whole")
    original, evaluated = lm_eval.evaluator.evaluate, []

    def dies(lm, task_dict, **kwargs):
        evaluated.extend(task_dict["tasks"])
        if len(evaluated) == 2:
            raise KeyboardInterrupt
        return original(lm, task_dict, **kwargs)

    monkeypatch.setattr(lm_eval.evaluator, "evaluate", dies)
    with pytest.raises(KeyboardInterrupt):
        component.evaluate(model, None, None, folder / "killed")
    component.evaluate(model, None, None, folder / "killed")
    assert evaluated == ["local_quiz", "local_write", "local_write"]
    for name in ("samples.jsonl", "scores.json"):
        assert (folder / "killed" / name).read_bytes() == (folder / "whole" / name).read_bytes()


def test_lm_evals_bbh_reads_a_folder_laid_out_like_the_hub(tmp_path, model):
    (package,) = find_spec("lm_eval").submodule_search_locations
    copy = tmp_path / "SaylorTwift" / "bbh"
    (copy / "boolean_expressions").mkdir(parents=True)
    rows = [{"input": f"not ( {value} ) is", "target": str(not value)} for value in (True, False, True)]
    (copy / "boolean_expressions" / "test.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (copy / "README.md").write_text(
        "---\nconfigs:\n- config_name: boolean_expressions\n  data_files:\n  - {split: test, path: "
        "boolean_expressions/test.jsonl}\n---\n"
    )
    (tmp_path / "out").mkdir()
    bbh = Path(package) / "tasks" / "bbh" / "fewshot"
    names = ["bbh_fewshot_boolean_expressions"]
    Harness(names, num_fewshot=3, include_path=str(bbh), data_dir=str(tmp_path)).evaluate(
        model, None, None, tmp_path / "out"
    )
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert scores["tasks"]["bbh_fewshot_boolean_expressions"]["n"] == 3
    read = "".join(
        model.tokenizer().decode(ids, skip_special_tokens=True) for batch in model.seen for ids in batch
    )
    assert "Evaluate the result of a random Boolean expression." in read
    assert read.count("Q: not ( ( not not True ) ) is\nA: False") == 3, (
        "one shot of three, in each of three prompts"
    )
    with pytest.raises(InputError, match=r"the data was not found in evaluation\.data_dir"):
        Harness(["bbh_fewshot_navigate"], include_path=str(bbh), data_dir=str(tmp_path)).evaluate(
            model, None, None, tmp_path / "out"
        )


IFEVAL = [
    ("Write without commas.", ["punctuation:no_comma"], [{}]),
    ("Write about it in JSON.", ["detectable_format:json_format"], [{}]),
]


def test_ifeval_reads_a_folder_and_checks_answers_of_the_length_that_is_asked(tmp_path, model, monkeypatch):
    import nltk

    (tmp_path / "tokenizers" / "punkt_tab").mkdir(parents=True)  # no instruction here counts sentences
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    copy = tmp_path / "data" / "google" / "IFEval"
    copy.mkdir(parents=True)
    names = ("prompt", "instruction_id_list", "kwargs")
    rows = [{"key": i, **dict(zip(names, one, strict=True))} for i, one in enumerate(IFEVAL)]
    (copy / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (package,) = find_spec("lm_eval").submodule_search_locations
    tasks = {"include_path": str(Path(package) / "tasks" / "ifeval"), "data_dir": str(tmp_path / "data")}
    component = Harness(["ifeval"], max_new_tokens=3, **tasks)
    assert component.check() == component.check_documents(None, None) == []
    (tmp_path / "out").mkdir()
    component.evaluate(model, None, None, tmp_path / "out")
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert main_metric(scores["mean"]) == "prompt_level_strict_acc"
    assert scores["left_out"] == {"ifeval": ["inst_level_loose_acc", "inst_level_strict_acc"]}
    samples = read_samples(tmp_path / "out" / "samples.jsonl")
    assert [sample["prompt_level_strict_acc"] for sample in samples] == [
        float("," not in samples[0]["generation"] and samples[0]["generation"].strip() != ""),
        0.0,
    ]
    assert 1 <= len(model.seen) <= 3, "the prompts, and two more tokens"


def test_our_own_instructions_are_checked_by_ifevals_rules(tmp_path, model, monkeypatch):
    import nltk
    from langdetect import DetectorFactory

    monkeypatch.setattr(DetectorFactory, "seed", 0)
    (tmp_path / "tokenizers" / "punkt_tab").mkdir(parents=True)  # none of ours counts sentences
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    from lm_eval.tasks.ifeval.instructions_registry import INSTRUCTION_DICT
    from lm_eval.tasks.ifeval.utils import process_results

    data = Path(__file__).parent / "ifeval"
    rows = [json.loads(line) for line in (data / "google" / "IFEval" / "train.jsonl").open(encoding="utf-8")]
    asked = {name for row in rows for name in row["instruction_id_list"]}
    counts_sentences = {"length_constraints:number_sentences", "change_case:capital_word_frequency"}
    assert asked == INSTRUCTION_DICT.keys() - counts_sentences
    followed = json.loads((data / "followed.json").read_text(encoding="utf-8"))
    no = "So, it is as it was in the morning of the day. " * 5
    said = {
        row["prompt"]: [process_results(row, [one])["prompt_level_strict_acc"] for one in (answer, no)]
        for row, answer in zip(rows, followed, strict=True)
    }
    assert {prompt: found for prompt, found in said.items() if found != [True, False]} == {}
    (package,) = find_spec("lm_eval").submodule_search_locations
    tasks = {"include_path": str(Path(package) / "tasks" / "ifeval"), "data_dir": str(data)}
    component = Harness(["ifeval"], max_new_tokens=2, batch_size=20, **tasks)
    assert component.check() == component.check_documents(None, None) == []
    (tmp_path / "out").mkdir()
    component.evaluate(model, None, None, tmp_path / "out")
    assert DetectorFactory.seed == component.seed, "a language is guessed alike each time"
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert scores["mean"]["n"] == len(rows) == 20
    for sample, row in zip(read_samples(tmp_path / "out" / "samples.jsonl"), rows, strict=True):
        ours = process_results(row, [sample["generation"]])["prompt_level_strict_acc"]
        assert sample["prompt_level_strict_acc"] == float(ours)


@pytest.mark.parametrize(
    ("row", "wrong"),
    [
        ("no folder", r"has no folder google/IFEval|the data was not found in evaluation\.data_dir="),
        ("no file", r"the data was not found in evaluation\.data_dir="),
        (
            {"prompt": "p", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{"n": None}]},
            "KeyError: 'key'",
        ),
        (
            {"key": 1, "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{"n": None}]},
            "KeyError: 'prompt'",
        ),
        ({"key": 1, "prompt": "p", "instruction_id_list": ["punctuation:no_comma"]}, "KeyError: 'kwargs'"),
        ({"key": 1, "prompt": "p", "instruction_id_list": ["no:such"], "kwargs": [{"x": 1}]}, "'no:such'"),
        (
            {"key": 1, "prompt": "p", "instruction_id_list": ["punctuation:no_comma"], "kwargs": []},
            "IndexErr",
        ),
        (
            {"key": 1, "prompt": "p", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{"n": 1}]},
            "unexpected keyword argument 'n'",
        ),
    ],
)
def test_a_file_of_instructions_that_is_missing_or_wrong_is_one_error_before_the_work(
    tmp_path, monkeypatch, row, wrong
):
    import nltk

    (tmp_path / "tokenizers" / "punkt_tab").mkdir(parents=True)
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    (tmp_path / "data" / ("google" if row == "no folder" else "google/IFEval")).mkdir(parents=True)
    if isinstance(row, dict):
        (tmp_path / "data" / "google" / "IFEval" / "train.jsonl").write_text(json.dumps(row) + "\n")
    (package,) = find_spec("lm_eval").submodule_search_locations
    tasks = {"include_path": str(Path(package) / "tasks" / "ifeval"), "data_dir": str(tmp_path / "data")}
    (problem,) = Harness(["ifeval"], **tasks).check_documents(None, None)
    assert re.search(wrong, problem), problem


def test_what_ifeval_lacks_is_said_before_the_work(monkeypatch, tmp_path):
    import nltk

    from smartdpp.evaluation import harness as module

    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    for name in ("ifeval", "leaderboard_ifeval"):
        (problem,) = Harness([name]).check()
        assert problem.startswith(f"evaluation.tasks: {name} counts sentences")
        assert "python -m nltk.downloader punkt_tab" in problem
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "langdetect" else find_spec(name))
    (problem,) = Harness(["ifeval"]).check()
    assert problem == "evaluation.tasks: ifeval needs langdetect: pip install 'smartdpp[ifeval]'"


def test_problems_are_seen_without_the_work(tmp_path):
    assert Harness(["mmlu"]).check() == Harness(["bbh_fewshot"]).check() == []
    assert Harness(["mmlu"], data_dir=str(tmp_path / "no")).check() == [
        f"evaluation.data_dir: there is no folder {tmp_path / 'no'}"
    ]
    (problem,) = Harness(["mmlu", "mmluu"]).check()
    assert "mentions the task mmluu" in problem
    with pytest.raises(InputError, match=r"evaluation\.tasks is empty"):
        Harness([])


def test_the_fingerprint_is_the_folders_content(folder):
    before = harness(folder, "local_quiz").fingerprint()
    assert harness(folder, "local_quiz").fingerprint() == before
    (folder / "data" / "quiz.jsonl").write_text("{}\n")
    assert harness(folder, "local_quiz").fingerprint() != before


def test_scores_of_another_lm_eval_are_other_ones(
    small_run: Callable[..., Run],  # noqa: F811
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And nothing else: what is chosen and trained does not depend on it."""
    asked = ["evaluation=combined", "+evaluation@evaluation.of.lm=harness"]
    asked += ["evaluation.of.heldout.tasks=[parity]", "evaluation.of.lm.tasks=[local_quiz]"]
    asked += [f"evaluation.of.lm.include_path={folder}/tasks", f"evaluation.of.lm.data_dir={folder}/data"]
    here = small_run(*asked)
    monkeypatch.setattr("smartdpp.evaluation.harness.version", lambda package: f"{package} of tomorrow")
    later = small_run(*asked)
    assert later.scores.key != here.scores.key
    assert later.slug != here.slug
    assert later.adapter.key == here.adapter.key


@pytest.mark.parametrize("parameter", ["data_dir", "include_path"])
def test_what_smartdpp_writes_below_a_folder_makes_no_other_run_of_it(folder, parameter):
    component = Harness(["local_quiz"], **{parameter: str(folder)})
    before = component.fingerprint()
    for made in ("store/scores/0123456789abcdef", "root/runs/random-tfidf-b1-s0-01234567", "report"):
        (folder / made).mkdir(parents=True)
        (folder / made / "results.csv").write_text("made")
        (folder / made / "report.html").write_text("made")
    assert component.fingerprint() == before
    (folder / "runs").mkdir()
    (folder / "runs" / "more.yaml").write_text(WRITE)
    assert component.fingerprint() != before, "a folder is known by what is in it, not by its name"


def define(folder, text, **changes):
    """A definition like QUIZ's with other lines, each under a new name, so that nothing is remembered of
    another test's."""
    for old, new in changes.items():
        text = text.replace(old, new)
    (folder / "tasks" / "quiz.yaml").write_text(text)
    return harness(folder, "local_quiz")


def test_whole_documents_have_a_loss_and_lm_evals_perplexities(folder, model):
    from lm_eval.evaluator import evaluate

    from smartdpp.evaluation.language_model import load

    (folder / "tasks" / "read.yaml").write_text(READ)
    # the last is longer than the context
    texts = ["one two three", "a  b\tc", "pétales rouges", "x y " * 2000]
    (folder / "data" / "quiz.jsonl").write_text(
        "".join(json.dumps({"question": text}) + "\n" for text in texts)
    )
    component = harness(folder, "local_read")
    assert component.check_documents(None, model) == []
    component.evaluate(model, None, None, folder)
    scores, samples = json.loads((folder / "scores.json").read_text()), read_samples(folder / "samples.jsonl")
    theirs = evaluate(load(model, None, 8), {"tasks": component._load()}, bootstrap_iters=0)["results"][
        "local_read"
    ]
    ours = scores["tasks"]["local_read"]
    for metric in ("word_perplexity", "byte_perplexity", "bits_per_byte"):
        assert ours[metric] == pytest.approx(theirs[f"{metric},none"], rel=1e-5)
    tokenizer = model.tokenizer()
    tokens = [
        len(tokenizer(sample["target"], split_special_tokens=True, add_special_tokens=False)["input_ids"])
        for sample in samples
    ]
    assert ours["loss"] == pytest.approx(sum(sample["nll"] for sample in samples) / sum(tokens))
    assert (scores["left_out"], scores["truncated"]) == ({}, {}), (
        "a document longer than the context is read in windows"
    )
    assert main_metric(scores["mean"]) == "loss"


def test_a_perplexity_that_no_number_holds_is_null(folder, model):
    (folder / "tasks" / "read.yaml").write_text(READ)
    harness(folder, "local_read").evaluate(model, None, None, folder)  # a word of 3,000 letters is among them
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["mean"]["word_perplexity"] is scores["tasks"]["local_read"]["word_perplexity_se"] is None
    assert scores["mean"]["loss"] > 0


def test_what_is_wrong_with_a_definition_is_said_before_any_model(folder):
    (problem,) = define(folder, QUIZ, **{"{{question}}\\nAnswer:": "{{nosuch}}"}).check_documents(None, None)
    assert problem.startswith("evaluation.tasks=local_quiz: lm-eval cannot make this task from ")
    assert problem.endswith("quiz.yaml: UndefinedError: 'nosuch' is undefined")
    (problem,) = define(folder, QUIZ, **{"quiz.jsonl": "none.jsonl"}).check_documents(None, None)
    assert f"the data was not found in evaluation.data_dir={folder / 'data'}" in problem
    assert "none.jsonl" in problem
    (problem,) = define(
        folder, QUIZ, **{"metric: acc, aggregation: mean": "metric: mcc, aggregation: matthews_corrcoef"}
    ).check_documents(None, None)
    assert "local_quiz has no metric that is a mean over documents" in problem
    assert "mcc" in problem
    (problem,) = define(folder, QUIZ, **{"test_split: test": "test_split: tset"}).check_documents(None, None)
    assert "lm-eval cannot make this task" in problem
    assert "tset" in problem
    (problem,) = define(folder, "include: gone.yaml\n" + QUIZ).check_documents(None, None)
    assert problem.startswith(
        f"evaluation.include_path: {folder / 'tasks' / 'quiz.yaml'} cannot be read: FileNotFoundError"
    )
    (problem,) = define(folder, QUIZ + "  bad: [").check_documents(None, None)
    assert "quiz.yaml cannot be read: ParserError" in problem


def test_every_document_is_looked_at_before_any_model(folder):
    rows = [{"question": f"{i}?", "label": label} for i, label in enumerate([0, 1, 2, -1, 5, 7])] + [
        {"question": None, "label": 0}
    ]
    (folder / "data" / "quiz.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    problems = harness(folder, "local_quiz").check_documents(None, None)
    assert (
        problems[0]
        == "evaluation.tasks: local_quiz, document 2: its answer 2 is none of its 2 choices (yes, no) nor "
        "the index of one"
    )
    assert problems[2].endswith("; 1 more documents of local_quiz are wrong")
    assert harness(folder, "local_quiz", limit=2).check_documents(None, None) == []
    (problem,) = harness(folder, "local_quiz", limit=2, num_fewshot=50).check_documents(None, None)
    assert problem.startswith("evaluation.num_fewshot=50: the shots of local_quiz cannot be made")


def test_a_set_without_documents_is_refused(folder):
    (folder / "data" / "quiz.jsonl").write_text("")
    assert len(harness(folder, "local_quiz").check_documents(None, None)) == 1


def test_a_task_of_the_hub_without_the_hub_is_refused_before_any_model(folder, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    hub = define(
        folder,
        QUIZ,
        **{
            "dataset_path: json": "dataset_path: nobody/nothing",
            "dataset_kwargs: {data_files: {test: quiz.jsonl}}": "",
        },
    )
    (problem,) = replace(hub, data_dir=None).check_documents(None, Lively())
    assert "the data was not found on the hub (evaluation.data_dir=FOLDER reads a copy)" in problem
    assert replace(hub, data_dir=None).check_documents(None, None) == [], (
        "a plan for a machine that has the model needs no hub on this one"
    )
    (problem,) = hub.check_documents(None, None)
    assert "the data was not found in evaluation.data_dir" in problem


def test_a_chat_s_frame_counts_where_a_document_is_cut(folder):
    text = "x" * (2048 - len("\nAnswer:") - len(" yes"))
    (folder / "data" / "quiz.jsonl").write_text(json.dumps({"question": text, "label": 0}) + "\n")
    for fmt, cut in (("plain", {}), ("chat", {"local_quiz": 1})):
        (folder / fmt).mkdir()
        harness(folder, "local_quiz").evaluate(Lively(format=fmt), None, None, folder / fmt)
        assert json.loads((folder / fmt / "scores.json").read_text())["truncated"] == cut
