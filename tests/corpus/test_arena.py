"""A pool of which it is known what is worth choosing."""

from collections import Counter

import pytest

from smartdpp.corpus.arena import Arena
from smartdpp.corpus.worlds import FALSE, TRUE, WORDINGS
from smartdpp.errors import InputError
from tests.corpus.conftest import parts

TWO = ["chain_sum", "spell_backward"]


def rows(**options):
    return parts(Arena(**({"target": TWO, "documents": 5, "per_target": 6, "per_other": 8} | options)))


def test_a_needle_is_known_and_no_document_is_asked_in_the_pool():
    documents, pool = rows(others=["gcd", "lcm"])
    assert Counter(row["task"] for row in documents) == {f"target/{name}": 5 for name in TWO}
    assert Counter(row["task"] for row in pool) == dict.fromkeys(TWO, 6) | {"gcd": 8, "lcm": 8}
    assert {row["task"] for row in pool if row["score"] == TRUE} == set(TWO)
    assert not {row["prompt"] for row in documents} & {row["prompt"] for row in pool}


@pytest.mark.parametrize("kind", ["pool", "family"])
def test_mismatched_answers_are_other_rows_own_and_marked(kind):
    own = {row["id"]: row for row in rows(per_target=20)[1]}
    _, pool = rows(per_target=20, mismatched=0.5, mismatch=kind)
    wrong = [row for row in pool if row["score"] == FALSE]
    assert 12 <= len(wrong) <= 20
    assert all(row["response"] != own[row["id"]]["response"] for row in wrong)
    assert all(row == own[row["id"]] for row in pool if row["score"] == TRUE)
    answers = {row["response"]: row["task"] for row in own.values()}
    strangers = sum(answers[row["response"]] != row["task"] for row in wrong)
    assert strangers == 0 if kind == "family" else strangers > 3


def test_sizes_follow_zipfs_law_from_the_largest_share_on():
    _, pool = rows(target=[*TWO, "lcm", "gcd"], per_target=50, largest=0.8)
    sizes = sorted(Counter(row["task"] for row in pool).values(), reverse=True)
    assert sizes == [160, 22, 11, 7]
    assert all(row["score"] == TRUE for row in pool)


def test_copies_are_wordings_of_a_row_and_only_the_first_is_worth_choosing():
    _, pool = rows(copied=0.25)
    assert Counter(row["score"] for row in pool) == {TRUE: 12, FALSE: 3 * (len(WORDINGS) - 1)}
    asked = {row["prompt"]: row for row in pool if row["score"] == TRUE}
    for row in pool:
        assert any(
            prompt in row["prompt"] and own["response"] == row["response"] for prompt, own in asked.items()
        )


def test_another_seed_is_another_world():
    first, second = ({row["prompt"] for part in rows(seed=seed) for row in part} for seed in (0, 1))
    assert len(first & second) <= 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mismatched": 1.5}, "a share from 0 to 1"),
        ({"others": ["chain_sum"]}, "none of which is in corpus.others"),
        ({"largest": 0.1}, "choose a share from 0.5"),
        ({"documents": 0}, "corpus.documents is 0"),
        ({"seed": 1000}, "choose below 1000"),
    ],
)
def test_what_cannot_be_made_is_said(options, said):
    with pytest.raises(InputError, match=said):
        Arena(**({"target": TWO} | options))


def test_a_family_that_is_not_there_is_named():
    assert "did you mean gcd" in Arena(target=["gdc"]).check()[0]
