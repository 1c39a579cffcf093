import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartdpp.corpus.overlap import HeldoutIndex, windows, words


def documents(*prompts, task="held"):
    return [{"id": f"{task}/{i}", "task": task, "prompt": prompt} for i, prompt in enumerate(prompts)]


def test_words_are_compared_without_case_and_punctuation():
    [match] = HeldoutIndex(documents("The QUICK, brown fox -- jumps!"), 4).matches(
        "so the quick (brown) Fox jumps over it"
    )
    assert match == ("held/0", "held", "the quick brown fox jumps", False)


texts = st.lists(st.sampled_from("abc"), max_size=12).map(" ".join)


@given(st.lists(texts, max_size=2), texts, st.integers(1, 4))
def test_a_document_matches_exactly_when_it_shares_a_window(held, prompt, n):
    """At most two documents: too few for anything to be boilerplate."""
    index = HeldoutIndex(documents(*held), n)
    expected = [
        f"held/{i}"
        for i, text in enumerate(held)
        if set(windows(words(text), n)) & set(windows(words(prompt), n))
    ]
    matches = index.matches(prompt)
    assert [match.heldout_id for match in matches] == expected
    for match in matches:
        assert match.text in prompt
        assert len(match.text.split()) >= min(n, len(prompt.split()))


def test_the_longest_shared_stretch_is_the_evidence():
    [match] = HeldoutIndex(documents("a b c d e f g h"), 3).matches("a b c x d e f g y f g h")
    assert match.text == "d e f g"


def test_a_short_prompt_matches_only_an_equal_one():
    index = HeldoutIndex(documents("Not True is"), 8)
    assert [match.heldout_id for match in index.matches("not ( true ) is")] == ["held/0"]
    assert index.matches("not true is what you get when you ask nine times") == []
    assert index.matches("...") == []


TEMPLATE = "State the final answer to the following arithmetic problem: {}"


@pytest.fixture
def arithmetic():
    numbers = ["41 53 17 88 62 90 35 24 11", *(f"{i} {i + 1}" for i in range(100, 120))]
    return HeldoutIndex(documents(*map(TEMPLATE.format, numbers), task="sum"), 8)


def test_a_templates_wording_is_boilerplate(arithmetic):
    [match] = arithmetic.matches(TEMPLATE.format("7 7"))
    assert match == (None, "sum", "state the final answer to the following arithmetic problem", True)


def test_a_template_with_a_word_or_two_more_still_is(arithmetic):
    assert [match.boilerplate for match in arithmetic.matches(TEMPLATE.format("103 7"))] == [True]


def test_what_a_template_was_filled_with_is_a_leak(arithmetic):
    leak, template = arithmetic.matches(TEMPLATE.format("41 53 17 88 62 90 35 24 99"))
    assert (leak.heldout_id, leak.boilerplate) == ("sum/0", False)
    assert leak.text.endswith("problem 41 53 17 88 62 90 35 24")
    assert template.boilerplate


def test_boilerplate_of_one_task_can_be_a_leak_of_another():
    common = "this sentence opens every single document of one task"
    index = HeldoutIndex(
        [*documents(*[f"{common} {i}" for i in range(9)], task="many"), *documents(common, task="one")], 8
    )
    assert [(match.heldout_id, match.heldout_task, match.boilerplate) for match in index.matches(common)] == [
        ("one/0", "one", False),
        (None, "many", True),
    ]


def test_what_one_in_ten_rows_of_a_task_say_is_wording_although_few_of_them_are_held_out():
    from smartdpp.corpus.overlap import NearCopies

    ways = [f"way {way} of asking this same question in eight or more words is" for way in range(10)]
    whole = [{"id": str(i), "task": "t", "prompt": f"{ways[i % 10]} {i} {i * i}"} for i in range(200)]
    assert any(not m.boilerplate for m in HeldoutIndex(whole[:2], 8).matches(whole[10]["prompt"])), (
        "two documents do not tell"
    )
    near = NearCopies(whole[:2], 8, whole)
    assert [row["id"] for row in whole if near.match(row["prompt"])] == ["0", "1"]
    assert near.match("Way 0  OF asking this same question in eight or more words is 0 0").heldout_id == "0"
    told = {"id": "a", "task": "t", "prompt": "a story of nine words that nobody else tells here"}
    near = NearCopies([told], 8, [*whole, told])
    assert near.match("once more a story of nine words that nobody else tells").heldout_id == "a"
