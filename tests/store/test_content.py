"""A component's files enter the identity by what lies in them, not by where they lie."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from smartdpp.config.check import check
from smartdpp.config.compose import compose_here
from smartdpp.config.identity import with_content, without_paths
from smartdpp.embedding.hidden import Hidden
from smartdpp.embedding.sentence import MiniLM, Sentence
from smartdpp.evaluation.harness import Harness
from smartdpp.models import Finetuned, Hub, SmolLM2, Tiny
from smartdpp.run.cell import Run
from smartdpp.run.stages import artifacts
from smartdpp.store import content

COMMITS = ("a" * 40, "b" * 40)


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(content, "_known", {})
    monkeypatch.setattr(content, "_unreachable", [])
    monkeypatch.setattr(content, "cache_dir", lambda: tmp_path / "memory")
    content.commit.cache_clear()
    yield
    content.commit.cache_clear()


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two models with one configuration and other weights."""
    made = (tmp_path / "models" / "one", tmp_path / "models" / "two")
    for seed, folder in enumerate(made):
        shutil.copytree(Tiny(seed=seed).path(), folder)
    return made


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files that were read to be hashed, in order."""
    seen: list[Path] = []
    real = content.file_hash
    monkeypatch.setattr(content, "file_hash", lambda path: seen.append(path) or real(path))
    return seen


def large(path: Path, byte: bytes = b"x", old: bool = True) -> Path:
    path.write_bytes(byte * (content.LARGE + 1))
    if old:
        settled(path)
    return path


def settled(path: Path) -> None:
    """The clock moves on, as files' times of change cannot be set back."""
    later = time.time() + 10
    content.time = SimpleNamespace(time=lambda: later)  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "time", time)


def keys(run: Run) -> dict[str, str]:
    return {name: artifact.key for name, artifact in artifacts(run).items()}


def test_two_folders_under_one_name_are_two_runs_that_share_nothing(
    small_run: Callable[..., Run], folders: tuple[Path, Path]
) -> None:
    one, two = (small_run("model=hub", f"model.path={folder}", "model.name=mine") for folder in folders)
    assert one.slug != two.slug
    assert not set(keys(one).values()) & set(keys(two).values())


@pytest.mark.parametrize(
    ("overrides", "stages"),
    [
        (["embedding=gradient", "embedding.dim=8"], {"embedding"}),
        (["quality=perplexity", "strategy=top"], {"response signals"}),
        (["task_vector=task2vec"], {"task vectors"}),
        (["embedding=gradient", "embedding.dim=8", "strategy=targeted"], {"embedding", "query"}),
    ],
)
def test_a_model_inside_another_component_counts_there(
    small_run: Callable[..., Run], folders: tuple[Path, Path], overrides: list[str], stages: set[str]
) -> None:
    """Not only through the corpus, whose tokens are the same: the component's own parameters name the
    content."""
    runs = [
        small_run("model=hub", f"model.path={folder}", "model.name=mine", *overrides) for folder in folders
    ]
    for stage in stages:
        one, two = (artifacts(run)[stage].params for run in runs)
        assert one != two, stage


def test_a_model_counts_wherever_it_stands(folders: tuple[Path, Path]) -> None:
    node = {
        "_target_": "smartdpp.embedding.hidden.Hidden",
        "model": {"_target_": "smartdpp.models.Hub", "path": "x", "name": "m"},
    }
    one, two = (with_content(node, Hidden(Hub(str(folder), "m"))) for folder in folders)
    assert one["model"]["content"] != two["model"]["content"]
    assert "content" not in one


def test_weights_replaced_in_place_are_another_run_and_a_moved_folder_is_the_same(
    small_run: Callable[..., Run], folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = folders
    before = small_run("model=hub", f"model.path={one}").slug
    assert small_run("model=hub", f"model.path={one}/").slug == before
    moved = tmp_path / "elsewhere"
    one.rename(moved)
    assert small_run("model=hub", f"model.path={moved}").slug == before
    link = tmp_path / "link"
    link.symlink_to(moved)
    assert small_run("model=hub", f"model.path={link}").slug == before
    monkeypatch.setenv("HOME", str(tmp_path))
    assert small_run("model=hub", "model.path='~/elsewhere'").slug == before
    shutil.copy(two / "model.safetensors", moved / "model.safetensors")
    assert small_run("model=hub", f"model.path={link}").slug != before


def test_a_file_behind_a_link_counts_by_its_content(folders: tuple[Path, Path], tmp_path: Path) -> None:
    one, two = folders
    weights = tmp_path / "blob"
    shutil.move(one / "model.safetensors", weights)
    (one / "model.safetensors").symlink_to(weights)
    before = Hub(str(one), "m").fingerprint()
    shutil.copy(two / "model.safetensors", weights)
    assert Hub(str(one), "m").fingerprint() != before


def test_each_file_that_a_model_is_made_of_counts_and_no_other(folders: tuple[Path, Path]) -> None:
    folder, _ = folders
    model = Hub(str(folder), "m")
    before = model.fingerprint()
    for name in (
        "README.md",
        "pytorch_model.bin",
        "training_args.bin",
        "checkpoint-5/model.safetensors",
        ".cache/x.json",
        "a.gguf",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("something")
    assert model.fingerprint() == before
    for name in (
        "config.json",
        "tokenizer.json",
        "chat_template.jinja",
        "vocab.bpe",
        "modeling_own.py",
        "model-00002-of-00002.safetensors",
    ):
        kept = (folder / name).read_bytes() if (folder / name).exists() else b""
        (folder / name).write_bytes(kept + b" ")
        changed = model.fingerprint()
        assert changed != before, name
        before = changed


def test_an_encoder_trained_further_in_its_folder_is_another_one(tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    shutil.copytree(
        MiniLM().packaged().folder() or "", folder, ignore=shutil.ignore_patterns("*.safetensors")
    )
    (folder / "model.safetensors").write_bytes(b"first")

    def what(folder: Path) -> dict[str, Any]:
        return without_paths(with_content({"model": str(folder), "batch_size": 32}, Sentence(str(folder))))

    before = what(folder)
    (folder / "model.safetensors").write_bytes(b"other")
    after = what(folder)
    assert before != after
    moved = tmp_path / "moved"
    folder.rename(moved)
    assert what(moved) == after
    (moved / "1_Pooling" / "config.json").write_text("{}")
    assert what(moved) != after


def test_packaged_models_are_what_their_parameters_say_and_keep_their_runs() -> None:
    assert [component.fingerprint() for component in (SmolLM2(), Tiny(), MiniLM())] == ["", "", ""]
    cfg = compose_here(["root=/tmp", "evaluation=heldout"])
    choices = dict(cfg.hydra.runtime.choices)
    del cfg.hydra
    run = Run(
        cfg, check(cfg), {group: name for group, name in choices.items() if not group.startswith("hydra/")}
    )
    assert run.slug == "smart-minilm-b230-s0-22238c00"
    assert "content" not in json.dumps(run.what)


def test_another_package_of_the_encoder_under_the_same_name_is_not_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(MiniLM, "packaged", lambda self: Sentence(str(tmp_path)))
    assert MiniLM().fingerprint()


def test_an_adapter_that_finetuning_left_counts_by_its_weights(tmp_path: Path) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(b"one")
    model = Finetuned(Tiny(), str(tmp_path))
    before = model.fingerprint()
    (tmp_path / "adapter_model.safetensors").write_bytes(b"two")
    assert model.fingerprint() != before


def test_the_hubs_commit_enters_and_is_what_is_loaded(
    small_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    asked = []

    def model_info(self, name, revision=None, timeout=None):
        asked.append((name, revision, timeout))
        return SimpleNamespace(sha=COMMITS[now])

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    slugs = []
    for now in (0, 1):  # read above
        content.commit.cache_clear()
        run = small_run("model=hub", "model.path=org/model")
        assert run.what["model"]["content"] == run.adapter.params["model"]["content"] == COMMITS[now]
        assert run.parts.model.source()["revision"] == COMMITS[now]
        slugs.append(run.slug)
    assert slugs[0] != slugs[1]
    assert asked[0][2] <= 5, "the hub is not waited for"


def test_a_dataset_on_the_hub_counts_by_its_commit_and_a_hub_out_of_reach_is_asked_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import huggingface_hub

    from smartdpp.corpus.hub import Hub as Dataset

    monkeypatch.setattr(
        huggingface_hub.HfApi, "dataset_info", lambda self, name, **_: SimpleNamespace(sha=COMMITS[0])
    )
    texts = {"prompt": "q", "response": "a"}
    assert Dataset("org/rows", columns=texts).fingerprint() == f"org/rows@{COMMITS[0]}"
    assert Dataset("org/rows", columns=texts, revision=COMMITS[1]).fingerprint() == f"org/rows@{COMMITS[1]}"
    # it may hold conversations, fields that are joined, or trees
    assert Dataset("org/rows").fingerprint() == f"org/rows@{COMMITS[0]} as turns joined grown"
    asked = []

    def dataset_info(self, name, **_):
        asked.append(name)
        raise ConnectionError

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    assert [Dataset(name, columns=texts).fingerprint() for name in ("org/a", "org/b")] == [
        "org/a@main",
        "org/b@main",
    ]
    assert asked == ["org/a"]


def test_offline_it_is_the_commit_of_the_cached_copy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub
    from huggingface_hub import constants

    def model_info(*_, **__):
        raise ConnectionError

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path), raising=False)
    repository = tmp_path / "models--org--model"
    for branch, commit in zip(("main", "next"), COMMITS, strict=True):
        (repository / "snapshots" / commit).mkdir(parents=True)
        (repository / "snapshots" / commit / "config.json").write_text("{}")
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / branch).write_text(commit)
    assert Hub("org/model", "m").fingerprint() == COMMITS[0]
    assert Hub("org/model", "m", revision="next").fingerprint() == COMMITS[1]
    assert Sentence("org/model").fingerprint() == COMMITS[0]
    assert Hub("org/model", "m", revision="c" * 40).fingerprint() == "c" * 40


def test_what_was_loaded_by_its_commit_is_found_again_offline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Loading by a commit leaves a snapshot in the hub's cache, and no branch that leads to it."""
    import huggingface_hub
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    answers: list[object] = [
        SimpleNamespace(sha=COMMITS[0]),
        ConnectionError(),
        SimpleNamespace(sha=COMMITS[1]),
        ConnectionError(),
    ]

    def model_info(*_: object, **__: object) -> object:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    for commit in COMMITS:
        for _ in ("online", "offline"):
            content.commit.cache_clear()
            content._unreachable.clear()
            model = Hub("org/model", "m")
            assert model.fingerprint() == model.source()["revision"] == commit
    content.commit.cache_clear()
    # a process of a run that has begun with the last of them: the hub is not asked
    monkeypatch.setenv(content.LAUNCHED_BY, "1")
    assert Hub("org/model", "m").fingerprint() == COMMITS[1]


def test_an_encoder_that_is_an_adapter_counts_with_what_it_builds_on(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"one")
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(folders[0])}))
    before = Sentence(str(adapter)).fingerprint()
    shutil.copyfile(folders[1] / "model.safetensors", folders[0] / "model.safetensors")
    assert Sentence(str(adapter)).fingerprint() != before


def test_a_file_called_as_a_model_on_the_hub_is_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from smartdpp.config.identity import without_paths

    monkeypatch.chdir(tmp_path)
    (tmp_path / "gpt2").write_text("a file")
    hub = {"_target_": "smartdpp.models.Hub", "path": "gpt2", "name": "m"}
    assert without_paths(hub) == hub
    (tmp_path / "folder").mkdir()
    assert "path" not in without_paths(hub | {"path": "folder"})


def test_a_commit_that_nobody_knows_is_said_in_words_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import huggingface_hub

    def model_info(*_, **__):
        raise ConnectionError

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    for _ in range(2):
        assert Hub("org/unheard-of", "m").fingerprint() == ""
    assert caplog.text.count("org/unheard-of: which commit main is cannot be told") == 1


def test_a_large_file_is_read_once_and_again_when_it_changed(
    hashed: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = large(tmp_path / "weights")
    first = content.file_hashes([path])
    assert content.file_hashes([path]) == first
    monkeypatch.setattr(content, "_known", {})  # another process
    assert content.file_hashes([path, tmp_path / "." / "weights"]) == first * 2
    assert len(hashed) == 1
    stat = path.stat()
    path.write_bytes(b"y" * stat.st_size)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as rsync --times or tar leave it
    assert content.file_hashes([path]) != first
    assert len(hashed) == 2


def test_a_file_written_just_now_is_not_remembered(hashed: list[Path], tmp_path: Path) -> None:
    path = large(tmp_path / "weights", old=False)
    content.file_hashes([path])
    content.file_hashes([path])
    assert len(hashed) == 2


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"PATH": 3}', '{"PATH": [1, 2, 3, 4, "short"]}'])
def test_a_damaged_memory_is_ignored(tmp_path: Path, damage: str) -> None:
    path = large(tmp_path / "weights")
    right = content.file_hashes([path])
    (tmp_path / "memory" / "hashes.json").write_text(damage.replace("PATH", str(path)))
    content._known.clear()
    assert content.file_hashes([path]) == right
    assert json.loads((tmp_path / "memory" / "hashes.json").read_text())[str(path)][-1] == right[0], (
        "and made anew"
    )


def test_without_a_cache_to_write_to_it_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(content, "cache_dir", lambda: tmp_path / "file" / "below")
    assert len(content.file_hashes([large(tmp_path / "weights")])[0]) == 64


def test_what_another_process_remembered_meanwhile_is_kept(tmp_path: Path) -> None:
    content.file_hashes([large(tmp_path / "one")])
    content._known.clear()
    content.file_hashes([large(tmp_path / "two", b"y")])
    assert set(json.loads((tmp_path / "memory" / "hashes.json").read_text())) == {
        str(tmp_path / "one"),
        str(tmp_path / "two"),
    }


def test_lm_evals_folders_count_by_content_also_behind_links_and_compiled_code_does_not(
    tmp_path: Path,
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "test.jsonl.gz").write_bytes(b"one")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "set").symlink_to(elsewhere)
    (folder / "set" / "again").symlink_to(folder)  # in a circle
    harness = Harness(["task"], include_path=str(folder))
    before = harness.fingerprint()
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "utils.pyc").write_bytes(b"compiled")
    assert harness.fingerprint() == before
    (elsewhere / "test.jsonl.gz").write_bytes(b"two")
    assert harness.fingerprint() != before
