from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from smartdpp.errors import InputError
from smartdpp.quality import Column, Constant, PromptTokens, ResponseTokens, TotalTokens

CONF = Path(__file__).parents[2] / "conf"
ROWS = pa.table({"id": ["a", "b", "c"], "n_tokens": [10, 7, 30], "n_prompt_tokens": [4, 6, 1]})


@pytest.mark.parametrize(
    ("quality", "expected"),
    [
        (ResponseTokens(), [6, 1, 29]),  # the end token is part of the response: an empty one still counts 1
        (PromptTokens(), [4, 6, 1]),
        (TotalTokens(), [10, 7, 30]),
        (Constant(2.5), [2.5, 2.5, 2.5]),
    ],
)
def test_scores_count_tokens(quality, expected):
    score = quality.score(ROWS)
    assert score.dtype == np.float64
    assert score.tolist() == expected


def test_chunked_columns_are_read_as_one():
    chunked = pa.concat_tables([ROWS.slice(0, 1), ROWS.slice(1)])
    assert ResponseTokens().score(chunked).tolist() == [6, 1, 29]


def test_a_score_of_zero_names_the_example():
    rows = pa.table({"id": ["a", "b", "c"], "n_tokens": [3, 2, 2], "n_prompt_tokens": [2, 0, 0]})
    with pytest.raises(
        InputError, match=r"prompt_tokens is not positive for 2 of 3 examples, the first being 'b' \(0\)"
    ):
        PromptTokens().score(rows)


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_a_constant_must_be_positive(value):
    with pytest.raises(InputError, match=r"quality\.value is"):
        Constant(value)


def rated(*scores):
    return pa.table({"id": ["a", "b", "c"][: len(scores)], "score": pa.array(scores, pa.float64())})


def test_a_number_that_came_with_the_rows_is_their_score():
    assert Column().score(rated(2.0, 0.5)).tolist() == [2, 0.5]
    assert Column(better="lower").score(rated(2.0, 0.5)).tolist() == [0.5, 2]
    np.testing.assert_allclose(Column(scale="log").score(rated(-3.0, 0.0)), np.exp([-3, 0]))
    np.testing.assert_allclose(Column(scale="log", better="lower").score(rated(-3.0, 0.0)), np.exp([3, 0]))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            rated(1.0, None, None),
            r"2 of 3 examples have no score, the first being 'b'.*corpus\.columns='\{score: their_name\}'",
        ),
        # a corpus made before it was asked for scores
        (ROWS, "3 of 3 examples have no score, the first being 'a'"),
        (rated(1.0, 0.0), r"column is not positive for 1 of 2 examples, the first being 'b' \(0\)"),
    ],
)
def test_a_missing_or_unusable_number_names_the_example(rows, message):
    with pytest.raises(InputError, match=message):
        Column().score(rows)


def test_infinity_is_no_score():
    with pytest.raises(InputError, match="not positive"):
        Column(scale="log").score(rated(1e9, 0.0))


@pytest.mark.parametrize("name", ["constant", "prompt_tokens", "response_tokens", "total_tokens"])
def test_every_yaml_scores_positively(name):
    with initialize_config_dir(str(CONF), version_base=None):
        quality = instantiate(compose(overrides=[f"+quality={name}"]).quality)
    assert (quality.score(ROWS) > 0).all()
