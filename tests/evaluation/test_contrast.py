"""Whether a task was learned, or the form of its answers."""

from math import log

import numpy as np
import pytest

from smartdpp.evaluation.contrast import blind_nll, contrasted


def documents(*answers):
    return [{"id": str(i), "prompt": "p", "response": answer} for i, answer in enumerate(answers)]


def test_the_prompt_blind_floor_is_the_smoothed_share_of_the_others_at_each_place():
    answers, V = [[1, 2], [1, 3], [4]], 10
    # the first answer, by [1, 3] and [4]: three tokens in all
    first = (1 + (1 + 1 / V) / 4) / 3  # one of two has 1 at the first place
    second = (0 + (0 + 1 / V) / 4) / 2  # none has 2 anywhere
    assert blind_nll(answers, V)[0] == pytest.approx(-log(first) - log(second))
    assert np.isfinite(blind_nll(answers, V)).all()


def test_its_probabilities_sum_to_one_over_the_vocabulary():
    others, V = [[1, 2], [1, 3], [4]], 6
    total = sum(np.exp(-blind_nll([*others, [token]], V)[-1]) for token in range(V))
    assert total == pytest.approx(1)


def test_answers_that_are_all_alike_are_as_good_as_known():
    assert max(blind_nll([[7, 7]] * 200, 50_000)) < 0.2


def test_every_document_is_given_the_next_other_answer(model):
    rows = documents(*"aabc")
    assert [row["other"] for row in contrasted(model, rows, 100)] == ["b", "b", "c", "a"]
    same = documents(*"aaa")
    assert contrasted(model, same, 100) == same


def test_an_answer_that_does_not_fit_beside_the_prompt_is_no_other(model):
    short, long = "a b", "a b " * 20
    rows = documents("c", long, short)
    assert [row["other"] for row in contrasted(model, rows, 1000)] == [long, short, "c"]
    assert [row["other"] for row in contrasted(model, rows, 20)] == [short, short, "c"]
    rows[0]["prompt"] = "p" * 18  # with its own answer there is room for two tokens
    kept = contrasted(model, rows, 20)
    assert [row["response"] for row in kept] == [long, short]


def test_the_predictor_without_a_prompt_sees_more_answers_of_the_task(model):
    every = documents(*"ab" * 30)
    few, more = (contrasted(model, every[:4], 100, seen) for seen in ((), every))
    assert [row["other"] for row in more] == [row["other"] for row in few]
    of_all = contrasted(model, every, 100)
    assert [row["blind_nll"] for row in more] == [row["blind_nll"] for row in of_all[:4]]
    assert max(row["blind_nll"] for row in more) < min(row["blind_nll"] for row in few)
