import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from smartdpp.corpus.procedural import CHOICES, FAMILIES, SETTINGS, ReasoningGym
from smartdpp.errors import InputError

HELDOUT = [
    "course_schedule",
    "family_relationships",
    "gcd",
    "letter_counting",
    "number_sequence",
    "simple_equations",
    "simple_geometry",
    "syllogism",
]


@pytest.fixture(scope="module")
def default():
    return list(ReasoningGym().rows())


def digest(rows):
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def test_a_hundred_examples_of_each_of_at_least_forty_families(default):
    assert len(FAMILIES) >= 40
    assert Counter(row["task"] for row in default) == dict.fromkeys(FAMILIES, 100)
    assert len({row["id"] for row in default}) == len(default)
    assert all(row["prompt"].strip() and row["response"].strip() for row in default)
    assert {row["license"] for row in default} == {"Apache-2.0"}
    assert len({row["dataset"] for row in default if row["task"] in HELDOUT}) >= 7


def test_examples_are_short_and_varied(default):
    assert sum(len(row["prompt"]) + len(row["response"]) < 500 for row in default) > 0.99 * len(default)
    distinct = {(row["prompt"], row["response"]) for row in default}
    assert len(distinct) > 0.97 * len(default)


def test_another_process_with_another_hash_seed_makes_the_same_rows(default):
    code = """
import hashlib, json
from smartdpp.corpus.procedural import ReasoningGym
print(hashlib.sha256(json.dumps(list(ReasoningGym().rows())).encode()).hexdigest())
"""
    environment = os.environ | {"PYTHONHASHSEED": "12345", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.strip() == digest(default)  # and nothing else is printed


def test_a_seed_is_other_examples_and_more_examples_begin_with_the_same(default):
    corpus = {"families": ["gcd", "lcm"]}
    few, many = (list(ReasoningGym(**corpus, per_family=n).rows()) for n in (5, 10))
    assert few == many[:5] + many[10:15]
    other = list(ReasoningGym(**corpus, seed=1).rows())
    ours = {row["prompt"] for row in default if row["task"] == "gcd"}
    assert len(ours & {row["prompt"] for row in other if row["task"] == "gcd"}) < 5


def test_families_of_unequal_size_fall_by_equal_ratios_and_begin_with_the_same_examples(default):
    uneven = ReasoningGym(families=["gcd", "dice", "aiw"], per_family=40, smallest=10)
    assert sorted(uneven.sizes()) == [10, 20, 40]
    rows = list(uneven.rows())
    assert Counter(row["task"] for row in rows) == dict(zip(uneven.families, uneven.sizes(), strict=True))
    assert {row["id"]: row["prompt"] for row in rows}.items() <= {
        row["id"]: row["prompt"] for row in default
    }.items()
    with pytest.raises(InputError, match="smallest"):
        ReasoningGym(per_family=5, smallest=6)


def test_the_yaml_says_what_the_code_does():
    path = Path(__file__).parents[2] / "conf" / "corpus" / "reasoning_gym.yaml"
    options = yaml.safe_load(path.read_text())
    assert options["families"] == list(FAMILIES) == sorted(FAMILIES)
    assert options["settings"] == SETTINGS
    assert all(name in path.read_text().split("_target_")[0] for name in HELDOUT)


def test_a_closed_set_of_answers_is_multiple_choice(default):
    for row in default:
        assert row["choices"] == CHOICES.get(row["task"])
        assert row["choices"] is None or row["answer"] == row["response"] in row["choices"]


def test_an_unknown_family_lists_close_names():
    [problem] = ReasoningGym(families=["gcd", "simple_equation"]).check()
    assert "no family 'simple_equation'; did you mean simple_equations" in problem
    assert "there are ab, acre" in ReasoningGym(families=["qqqqqq"]).check()[0]
    with pytest.raises(InputError, match="did you mean"):
        next(ReasoningGym(families=["simple_equation"]).rows())


def test_a_family_that_cannot_be_reproduced_is_refused():
    assert "gives other examples in every process" in ReasoningGym(families=["ransom_note"]).check()[0]


def test_settings_reach_the_family_and_wrong_ones_are_named():
    [row] = ReasoningGym(
        families=["chain_sum"], per_family=1, settings={"chain_sum": {"min_terms": 9, "max_terms": 9}}
    ).rows()
    assert row["prompt"].count("+") + row["prompt"].count(" - ") >= 8
    with pytest.raises(InputError, match=r"corpus.settings: reasoning-gym refuses .* for chain_sum"):
        next(ReasoningGym(families=["chain_sum"], settings={"chain_sum": {"terms": 9}}).rows())
    assert (
        "corpus.settings: reasoning-gym has no family 'chainsum'"
        in ReasoningGym(settings={"chainsum": {}}).check()[0]
    )


def test_a_family_without_a_stated_answer_has_empty_responses():
    assert {
        row["response"] for row in ReasoningGym(families=["propositional_logic"], per_family=3).rows()
    } == {""}


@pytest.mark.parametrize(
    "wrong", [{"families": []}, {"families": ["gcd", "gcd"]}, {"per_family": 0}, {"seed": -1}]
)
def test_parameters_out_of_range(wrong):
    with pytest.raises(InputError, match=f"corpus.{next(iter(wrong))}"):
        ReasoningGym(**wrong)


def test_an_example_that_cannot_be_made_is_left_out_and_told(caplog):
    made = [row["id"] for row in ReasoningGym(["maze"], 4, seed=4, settings=dict(SETTINGS)).rows()]
    assert made == ["maze/4-0", "maze/4-1", "maze/4-3"]
    assert "example 2 of maze is left out: reasoning-gym cannot make it: Could not find" in caplog.text
