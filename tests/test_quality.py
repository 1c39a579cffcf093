from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from smartdpp.errors import InputError
from smartdpp.quality import Constant, PromptTokens, ResponseTokens, TotalTokens

CONF = Path(__file__).parents[1] / "conf"
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
    with pytest.raises(InputError, match=r"prompt_tokens is not positive for 2 of 3 examples, the first being 'b' \(0\)"):
        PromptTokens().score(rows)


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_a_constant_must_be_positive(value):
    with pytest.raises(InputError, match=r"quality\.value is"):
        Constant(value)


@pytest.mark.parametrize("name", ["constant", "prompt_tokens", "response_tokens", "total_tokens"])
def test_every_yaml_scores_positively(name):
    with initialize_config_dir(str(CONF), version_base=None):
        quality = instantiate(compose(overrides=[f"+quality={name}"]).quality)
    assert (quality.score(ROWS) > 0).all()
