import pytest

from smartdpp.corpus.worlds import DOCUMENTS, World
from smartdpp.types import Row


def parts(made: World) -> tuple[list[Row], list[Row]]:
    """A world's documents and its pool; made a second time they are the same, and no id is there twice."""
    found = list(made.rows())
    assert found == list(made.rows())
    assert len({row["id"] for row in found}) == len(found)
    return (
        [row for row in found if row["task"].startswith(DOCUMENTS)],
        [row for row in found if not row["task"].startswith(DOCUMENTS)],
    )


@pytest.fixture(scope="session")
def word_tokenizer():
    """One token per word, so that token counts can be read off the text; <eos> and <|im_start|> are
    special."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<unk>": 0, "<eos>": 1, "<|im_start|>": 2}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        unk_token="<unk>",
        eos_token="<eos>",
        additional_special_tokens=["<|im_start|>"],
        model_max_length=10**9,
    )
