"""What a model cannot do is said before any work, from its configuration, tokenizer and files; sizes are
those of the model itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from smartdpp.config import misfits
from smartdpp.embedding.gradient import Gradient
from smartdpp.embedding.hidden import Hidden
from smartdpp.errors import InputError
from smartdpp.finetune import Finetune
from smartdpp.judge import Reward
from smartdpp.models import Finetuned, Hub, SmolLM2, Tiny
from smartdpp.models import anatomy as module
from smartdpp.models.anatomy import anatomy
from smartdpp.models.reward import RewardModel
from smartdpp.run.cell import Run
from smartdpp.signals.rating import question, ratings
from smartdpp.store.content import model_content
from smartdpp.task_vectors import Task2Vec

SMALL = {
    "vocab_size": 259,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LLAMA = SMALL | {
    "intermediate_size": 64,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
}
GPT2 = {
    "vocab_size": 259,
    "n_embd": 32,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 300,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def saved(folder: Path, config: Any, cls: Any = None, tokenizer: bool = True) -> Path:
    """A random model, with the bytes' tokenizer."""
    from transformers import AutoModelForCausalLM

    (cls or AutoModelForCausalLM.from_config)(config).save_pretrained(folder)
    if tokenizer:
        Tiny().tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> dict[str, Path]:
    import transformers as t

    top = tmp_path_factory.mktemp("models")
    made = {
        "llama": saved(top / "llama", t.LlamaConfig(**LLAMA)),
        "gpt2": saved(top / "gpt2", t.GPT2Config(**GPT2)),
        "bert": saved(top / "bert", t.BertConfig(**SMALL, intermediate_size=64)),
        "mamba": saved(
            top / "mamba", t.MambaConfig(vocab_size=259, hidden_size=32, num_hidden_layers=2, state_size=8)
        ),
        "mixtral": saved(
            top / "mixtral", t.MixtralConfig(**LLAMA, num_local_experts=4, num_experts_per_tok=2)
        ),
        "qwen3": saved(top / "qwen3", t.Qwen3Config(**LLAMA, head_dim=8)),
        "classifier": saved(top / "classifier", t.LlamaConfig(**LLAMA), t.LlamaForSequenceClassification),
    }
    t5 = t.T5Config(vocab_size=259, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    return made | {"t5": saved(top / "t5", t5, t.T5ForConditionalGeneration)}


@pytest.fixture
def own(models: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the Llama, to be spoilt."""
    return Path(shutil.copytree(models["llama"], tmp_path / "own"))


@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral", "qwen3"])
def test_a_causal_model_is_not_refused_and_its_parameters_are_counted(
    models: dict[str, Path], name: str
) -> None:
    model = Hub(str(models[name]), name)
    assert model.check() == []
    sizes = anatomy(model)
    assert sizes is not None
    assert sizes.parameters == model.load().num_parameters()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("t5", r"is an encoder-decoder \(t5\)"),
        ("bert", r"is an encoder \(bert\), whose tokens see those that follow"),
        ("mamba", r"keeps a state in place of keys and values \(mamba\)"),
        ("classifier", r"has no weights for lm_head, the layer that makes its predictions"),
    ],
)
def test_what_is_no_causal_transformer_is_refused(
    models: dict[str, Path], name: str, said: str, small_run: Callable[..., Run]
) -> None:
    with pytest.raises(InputError, match=said) as refused:
        small_run("model=hub", f"model.path={models[name]}", "until=plan")
    assert f"model.path={models[name]}" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_cannot_be_scored_is_refused_only_where_it_is(models: dict[str, Path]) -> None:
    from smartdpp.config.misfits import misfits
    from smartdpp.evaluation.heldout import Heldout
    from smartdpp.evaluation.none import NoEvaluation

    mamba, plain = Hub(str(models["mamba"]), "m"), {"model": {"path": "mamba"}, "pool": {}}
    assert mamba.check() == []
    assert list(misfits({"model": mamba, "evaluation": NoEvaluation()}, plain)) == []
    (said,) = misfits({"model": mamba, "evaluation": Heldout(tasks=["a"])}, plain)
    assert said.startswith("model.path=mamba keeps a state in place of keys and values (mamba)")


def test_what_this_machine_lacks_is_asked_again(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    real = transformers.AutoTokenizer.from_pretrained

    def lacking(*args: object, **kwargs: object) -> None:
        raise ImportError("requires the SentencePiece library")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lacking)
    config = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps(config | {"note": "another model than the other tests'"}))
    assert "requires the SentencePiece library" in Hub(str(own), "m").check()[0]
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", real)
    module._by_content.cache_clear()
    assert Hub(str(own), "m").check() == []


@pytest.mark.parametrize("config", ["Gemma3nTextConfig", "Gemma4TextConfig", "BltConfig"])
def test_sizes_that_differ_by_layer_or_are_called_otherwise_are_left_out(
    config: str, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes as transformers' own classes give them; the network behind them stays the small one."""
    import transformers

    from smartdpp.models import anatomy

    if not hasattr(transformers, config):
        pytest.skip(f"this transformers has no {config}")
    found = getattr(transformers, config)()
    small = anatomy._on_meta(transformers.AutoConfig.from_pretrained(own), False)
    small.config = found
    assert anatomy._sizes_if_usual(small)["scores"]


def test_weights_that_would_be_random_are_refused_when_they_are_loaded(models: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=r"1 tensors are not among its weights, first lm_head\.weight"):
        Hub(str(models["classifier"]), "m").load()


def test_files_that_are_not_there(own: Path) -> None:
    (own / "model.safetensors").rename(own / "pytorch_model.bin")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (own / name).unlink()
    weights, tokenizer = Hub(str(own), "m").check()
    assert weights.startswith(f"model.path={own} holds no .safetensors weights (only pytorch_model.bin): ")
    assert tokenizer.startswith(f"model.path={own} holds no tokenizer")
    (own / "config.json").unlink()
    assert Hub(str(own), "m").check() == [
        f"model.path={own} holds no config.json; give a folder made by save_pretrained, or a hub name like "
        "org/model"
    ]
    assert "there is no such folder" in Hub(f"{own}/not/there", "m").check()[0]


def test_weights_that_are_cut_short_or_missing(own: Path) -> None:
    weights = own / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-7])
    assert "weights that are damaged or cut short (model.safetensors)" in Hub(str(own), "m").check()[0]
    weights.rename(own / "model-00001-of-00002.safetensors")
    (own / "model-00001-of-00002.safetensors").write_bytes(whole)
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (own / "model.safetensors.index.json").write_text(json.dumps(index))
    assert (
        "lacks 1 of 2 files of its weights, first model-00002-of-00002.safetensors"
        in Hub(str(own), "m").check()[0]
    )


def test_an_adapter_is_not_a_model_and_its_model_is_named(own: Path) -> None:
    (own / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/base"}))
    (problem,) = Hub(str(own), "m").check()
    assert (
        "is an adapter of org/base, not a whole model: give that model (model.path=org/base), or merge the "
        "two" in problem
    )


def test_a_tokenizer_that_does_not_fit(own: Path) -> None:
    settings = own / "tokenizer_config.json"
    settings.write_text(
        json.dumps(
            {name: value for name, value in json.loads(settings.read_text()).items() if name != "eos_token"}
        )
    )
    words = json.loads((own / "tokenizer.json").read_text())
    words["added_tokens"].append({**words["added_tokens"][0], "id": 259, "content": "<|more|>"})
    (own / "tokenizer.json").write_text(json.dumps(words))
    problems = "\n".join(Hub(str(own), "m").check())
    assert "has a tokenizer without an end-of-text token" in problems
    assert "has a tokenizer of 260 tokens and an embedding of 259" in problems


def test_only_a_chat_whose_turns_have_an_end_of_their_own_is_told_from_before(own: Path) -> None:
    def told(fmt: str) -> list[str]:
        judge, reward = Reward(str(own)), RewardModel(str(own), "m", format=fmt)
        return [one.fingerprint() for one in (Hub(str(own), "m", format=fmt), reward, judge)]

    assert told("chat") == told("plain") == [model_content(own)] * 3
    tokenizer = Tiny().tokenizer()
    tokenizer.eos_token = "<|endoftext|>"
    tokenizer.save_pretrained(own)
    assert told("chat") == [f"{model_content(own)}, turns end with <|im_end|>"] * 3
    assert told("plain")[:2] == [model_content(own)] * 2
    shutil.copytree(own, own.parent / "spoilt")
    (own.parent / "spoilt" / "tokenizer.json").write_text("{}")
    assert Reward(str(own.parent / "spoilt")).fingerprint() == model_content(own.parent / "spoilt")


def test_chat_needs_a_template_that_shows_the_users_text(own: Path) -> None:
    assert Hub(str(own), "m", format="chat").check() == []
    template = own / "chat_template.jinja"
    template.write_text("{{ raise_exception('roles must alternate') }}")
    assert (
        "its chat template fails for one user turn (roles must alternate)"
        in Hub(str(own), "m", format="chat").check()[0]
    )
    template.write_text("hello")
    assert "does not show a user's text" in Hub(str(own), "m", format="chat").check()[0]
    template.unlink()
    (problem,) = Hub(str(own), "m", format="chat").check()
    assert problem.endswith(
        "cannot be used with model.format=chat, as the tokenizer has no chat template: use model.format=plain"
    )
    assert Hub(str(own), "m").check() == []


def test_a_configuration_that_nobody_knows(own: Path) -> None:
    (own / "config.json").write_text(json.dumps({"model_type": "nonesuch"}))
    (problem,) = Hub(str(own), "m").check()
    assert "cannot be made from its config.json: " in problem
    assert "nonesuch" in problem


def test_target_modules_that_match_nothing_list_what_would(
    models: dict[str, Path], small_run: Callable[..., Run]
) -> None:
    gpt2 = ["model=hub", f"model.path={models['gpt2']}", "until=plan"]
    with pytest.raises(
        InputError,
        match=r"q_proj, v_proj are in none of the names .* \(gpt2\), which has c_attn, c_fc, "
        r"c_proj, wpe, wte;",
    ):
        small_run(*gpt2, "recipe.target_modules=[q_proj,v_proj,c_attn]")
    with pytest.raises(InputError, match=r"recipe\.target_modules=.*gate.* is in none"):
        small_run(*gpt2, "recipe.target_modules='.*gate.*'")
    small_run(*gpt2, "recipe.target_modules=[c_attn]")
    small_run(*gpt2, "recipe.target_modules='.*h\\.[01]\\.attn\\.c_attn'")
    with pytest.raises(
        InputError, match=r"c_attn is in none of the names .* down_proj, embed_tokens, gate_proj"
    ):
        small_run("recipe.target_modules=[c_attn]")


def test_a_rating_asks_about_a_row_in_more_tokens_than_it_has(
    models: dict[str, Path], small_run: Callable[..., Run]
) -> None:
    """Bytes: "Rate.", and 45 of the frame."""
    gpt2, short = (["model=hub", f"model.path={models[name]}", "until=plan"] for name in ("gpt2", "llama"))
    rated = ["quality=rated", "quality.prompts=[Rate.,It]", "strategy=top"]
    more = len(question("Rate.", "", ""))
    with pytest.raises(InputError, match=rf"of up to {more} tokens around .* choose {300 - more} or less"):
        small_run(*gpt2, *rated, f"pool.max_tokens={301 - more}")
    small_run(*gpt2, *rated, f"pool.max_tokens={300 - more}")
    small_run(*short, *rated, "pool.max_tokens=512")  # which only was not trained there
    row = {"id": ["a"], "prompt": ["a" * 200], "response": ["b" * 90]}
    model = Hub(str(models["gpt2"]), "m")
    with pytest.raises(InputError, match=r"row a: quality=rated asks about it in .* has positions for 300"):
        ratings(model.load(), model.tokenizer(), "plain", pa.table(row), ["Rate."], 400)


def test_own_answers_are_no_longer_than_the_model_reads(
    models: dict[str, Path], small_run: Callable[..., Run]
) -> None:
    run = ["model=hub", f"model.path={models['gpt2']}", "strategy=kmq_rounds", "evaluation.generate=false"]
    with pytest.raises(InputError, match=r"strategy\.max_new_tokens=64 after prompts of up to 248 tokens"):
        small_run(*run, "pool.max_tokens=250")
    small_run(*run, "pool.max_tokens=250", "pool.max_prompt_tokens=235")


def test_rows_longer_than_the_model_reads(models: dict[str, Path], small_run: Callable[..., Run]) -> None:
    gpt2, llama = (["model=hub", f"model.path={models[name]}", "until=plan"] for name in ("gpt2", "llama"))
    with pytest.raises(
        InputError, match=r"pool\.max_tokens=301: the model \(gpt2\) has positions for 300 tokens"
    ):
        small_run(*gpt2, "pool.max_tokens=301")
    with pytest.raises(
        InputError, match=r"pool\.max_tokens=513: the model \(llama\) was made for 512 tokens"
    ):
        small_run(*llama, "pool.max_tokens=513")
    small_run(*llama, "pool.max_tokens=512")
    with pytest.raises(
        InputError,
        match=r"max_new_tokens=32 after prompts of up to 298 tokens: .* choose "
        r"pool\.max_prompt_tokens=268 or less",
    ):
        small_run(*gpt2, "pool.max_tokens=300", "evaluation.max_new_tokens=32")
    small_run(*gpt2, "pool.max_tokens=300", "evaluation.max_new_tokens=32", "pool.max_prompt_tokens=268")


def misfit(component: Any, group: str) -> list[str]:
    return list(misfits.misfits({group: component}, {"pool": {"max_tokens": 10}}))


def test_layers_that_the_model_has_not(models: dict[str, Path]) -> None:
    tiny, gpt2 = Tiny(), Hub(str(models["gpt2"]), "m")
    assert misfit(Hidden(tiny, layer=2), "embedding") == misfit(Hidden(tiny, layer=-3), "embedding") == []
    assert misfit(Hidden(tiny, layer=3), "embedding") == [
        "embedding.layer=3: the model has 2 layers; choose 0 (token embeddings) to 2, or -1 to -3"
    ]
    assert "the model has 3 layers" in misfit(Hidden(gpt2, layer=-5), "probe")[0]
    assert misfit(Gradient(tiny), "embedding") == []
    for component, group in ((Gradient(gpt2), "embedding"), (Task2Vec(gpt2), "task_vector")):
        assert (
            "nn.Linear layers in attention, of which this model (gpt2) has none"
            in misfit(component, group)[0]
        )


def test_the_packaged_models_are_known_without_asking_transformers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is said of them by heart is what transformers says of their files."""
    from dataclasses import replace

    def same(known: Any, folder: Path) -> None:
        asked = module._asked(folder, False)
        assert known == replace(asked, chat=None, end=None)

    same(anatomy(Tiny(hidden_size=64, num_layers=3)), Tiny(hidden_size=64, num_layers=3).path())
    smol = {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
    }
    smol |= {
        "vocab_size": 49152,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
        "model_type": "llama",
    }
    (tmp_path / "config.json").write_text(json.dumps(smol))
    same(anatomy(SmolLM2()), tmp_path)
    assert anatomy(SmolLM2()).parameters == 134_515_008
    assert anatomy(Finetuned(Tiny(), "adapter")) == anatomy(Tiny())
    assert anatomy(Hub("org/never-heard-of", "m", revision="a" * 40)) is None


def test_the_answer_is_remembered_by_content_and_a_damaged_one_is_asked_again(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    real = module._asked
    monkeypatch.setattr(module, "_asked", lambda *where: asked.append(where) or real(*where))
    monkeypatch.setattr(module, "cache_dir", lambda: own.parent / "memory")

    def again(folder: Path) -> int:
        module._by_content.cache_clear()
        asked.clear()
        assert (
            anatomy(Hub(str(folder), "m")).layers
            == json.loads((folder / "config.json").read_text())["num_hidden_layers"]
        )
        return len(asked)

    assert [again(own), again(own)] == [1, 0]
    moved = own.rename(own.parent / "moved")
    assert again(moved) == 0
    (file,) = (own.parent / "memory" / "anatomy").iterdir()
    file.write_text("{")
    assert [again(moved), again(moved)] == [1, 0]
    (moved / "config.json").write_text(
        (moved / "config.json").read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 4')
    )
    assert again(moved) == 1


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_weights_that_are_no_numbers_are_named_when_they_are_loaded(own: Path, value: str) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(own / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 5] = float(value)
    save_file(weights, own / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        InputError, match=r"1 of 2048 weights in model\.layers\.1\.mlp\.up_proj\.weight are NaN or infinite"
    ):
        Hub(str(own), "m").load()


def test_a_recipe_by_itself_still_knows_nothing_of_models() -> None:
    assert Finetune(target_modules=["anything"]).check() == []
