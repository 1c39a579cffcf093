"""A root at an address: finished there only when all of it is there, shared by machines, with the results of
a local folder.

A machine is a cache of its own: what two of them share is the address alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hydra.core.hydra_config import HydraConfig

from smartdpp.errors import InputError
from smartdpp.report import main as report
from smartdpp.run.cell import Run
from smartdpp.run.pipeline import execute
from smartdpp.store import remote
from smartdpp.store.artifact import Artifact
from smartdpp.store.disk import read_json
from smartdpp.store.locks import Busy, lock
from smartdpp.store.remote import address, folder, opened, problems
from smartdpp.store.same import once
from smartdpp.study.cells import state


@pytest.fixture
def on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """``on("b")``: from here on this process is machine b."""

    def switch(machine: str) -> None:
        monkeypatch.setenv("SMARTDPP_CACHE", str(tmp_path / machine))

    switch("a")
    return switch


@pytest.fixture(params=["memory", "file"])
def root(request: pytest.FixtureRequest, tmp_path: Path, on: Callable[[str], None]) -> str:
    return f"memory://{tmp_path.name}/study" if request.param == "memory" else f"file://{tmp_path}/there"


def artifact(root: str) -> Artifact:
    return Artifact(folder(root), "stage", 1, {"x": 1}, {})


def build(out: Path) -> dict[str, Any]:
    (out / "sub").mkdir(exist_ok=True)
    (out / "X.bin").write_bytes(b"vectors")
    (out / "sub" / "list.txt").write_text("one\n")
    return {"n": 1}


def there(root: str) -> set[str]:
    fs, at = opened(root)
    return {name.removeprefix(at + "/") for name in fs.find(at)}


def stamps(root: str) -> dict[str, Any]:
    fs, at = opened(root)
    return {name: fs.modified(name) for name in fs.find(at)}


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket/a/b",
        "memory://x",
        "file:///data/with space",
        "abfs://c@account.net:80/ä?*",
        "hdfs:///user/x",
    ],
)
def test_a_path_says_its_address(on: Callable[[str], None], url: str) -> None:
    assert address(folder(url)) == url
    assert address(folder(url) / "runs" / "r") == f"{url}/runs/r"
    assert address(remote._copy(url)) == url


def test_a_folder_is_its_own_root_and_has_no_address(tmp_path: Path, on: Callable[[str], None]) -> None:
    assert folder("runs/../here") == Path("runs/../here")
    assert address(tmp_path) is None
    with pytest.raises(InputError, match=r"no \. or \.\."):
        folder("s3://bucket/../other")


def test_the_key_is_that_of_a_local_root(root: str, tmp_path: Path) -> None:
    assert artifact(root).key == artifact(str(tmp_path)).key


def test_another_machine_finds_what_one_has_made(root: str, on: Callable[[str], None]) -> None:
    assert artifact(root).produce(build) is False
    on("b")
    found = artifact(root)
    assert found.finished
    assert found.meta()["facts"] == {"n": 1}
    assert found.produce(build) is True
    assert not found.path.exists(), "nothing is fetched before someone reads it"
    assert remote.file(found.path / "X.bin").read_bytes() == b"vectors"
    assert not remote.file(found.path / "absent").exists()
    assert (found.here() / "sub" / "list.txt").read_text() == "one\n"
    assert remote.file(found.path / "X.bin") == found.path / "X.bin", "now it lies here"


def test_work_of_the_same_content_is_taken_over_from_another_machine(
    root: str, on: Callable[[str], None]
) -> None:
    once(artifact(root), lambda: "same", build)
    on("b")
    other = replace(artifact(root), params={"x": 2})
    assert once(other, lambda: "same", lambda out: pytest.fail("another machine has it")) is False
    on("c")
    assert replace(other, root=folder(root)).meta()["facts"] == {
        "n": 1,
        "content": "same",
        "taken_from": artifact(root).key,
    }
    assert (replace(other, root=folder(root)).here() / "sub" / "list.txt").read_text() == "one\n"


def test_an_interrupted_build_is_nowhere_and_goes_on_where_it_was(
    root: str, on: Callable[[str], None]
) -> None:
    def interrupted(out: Path) -> dict[str, Any]:
        (out / "shard").write_text("done")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        artifact(root).produce(interrupted)
    assert there(root) == set(), "neither files nor a lock"
    on("b")
    artifact(root).produce(lambda out: {"resumed": (out / "shard").exists()})
    assert artifact(root).meta()["facts"] == {"resumed": False}

    fs, at = opened(address(artifact(root).path))
    fs.rm(at, recursive=True)
    on("a")
    artifact(root).produce(lambda out: {"resumed": (out / "shard").exists()})
    assert artifact(root).meta()["facts"] == {"resumed": True}


def test_half_a_sending_is_not_finished_and_is_sent_again(
    root: str, on: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fs, _ = opened(address(artifact(root).path))
    put_file, sent = fs.put_file, []

    def lost(path: str, to: str, **options: Any) -> None:
        if len(sent) == 2:
            raise ConnectionError("the line is down")
        sent.append(path)
        put_file(path, to, **options)

    with monkeypatch.context() as patch:
        patch.setattr(fs, "put_file", lost)
        with pytest.raises(InputError, match=r"cannot read or write .*the line is down"):
            artifact(root).produce(build)
    assert len(there(root)) == 2, "meta.json is not among them"
    assert not artifact(root).finished
    on("b")
    assert not artifact(root).finished
    on("a")
    assert artifact(root).produce(lambda out: pytest.fail("it was built before")) is False
    assert artifact(root).finished
    assert {name.rpartition("/")[2] for name in there(root)} == {"X.bin", "list.txt", "meta.json"}


def test_half_a_fetching_is_not_here(
    root: str, on: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact(root).produce(build)
    on("b")
    fs, _ = opened(address(artifact(root).path))
    get_file, got = fs.get_file, []

    def lost(path: str, to: str, **options: Any) -> None:
        if got:
            raise ConnectionError("the line is down")
        got.append(path)
        get_file(path, to, **options)

    with monkeypatch.context() as patch:
        patch.setattr(fs, "get_file", lost)
        with pytest.raises(InputError, match="the line is down"):
            artifact(root).here()
    assert not artifact(root).path.exists()
    assert len([path for path in artifact(root).here().rglob("*") if path.is_file()]) == 3


def test_one_machine_waits_for_another(root: str, on: Callable[[str], None]) -> None:
    path = "runs/r"
    with lock(folder(root) / path) as still_held:
        assert still_held()
        on("b")
        with pytest.raises(Busy), lock(folder(root) / path, wait=False):
            pass
        assert state(folder(root) / path)[0] == "missing", "a lock alone is no run yet"
        on("a")
    on("b")
    with lock(folder(root) / path, wait=False):
        pass
    assert there(root) == set()


def test_a_failed_run_is_made_good_by_another_machine(root: str, on: Callable[[str], None]) -> None:
    run = folder(root) / "runs" / "r"
    run.mkdir(parents=True)
    with remote.sent_back(run, lambda: True):
        (run / "error.txt").write_text("RuntimeError: no luck\n")
    on("b")
    run = folder(root) / "runs" / "r"
    assert state(run) == ("failed", "RuntimeError: no luck")
    run.mkdir(parents=True)
    remote.check_out(run)
    with remote.sent_back(run, lambda: True):
        (run / "error.txt").unlink()
        (run / "result.json").write_text("{}")
    on("a")
    assert state(folder(root) / "runs" / "r") == ("done", "")
    assert there(root) == {"runs/r/result.json"}


def test_who_lost_the_lock_publishes_nothing(root: str, on: Callable[[str], None]) -> None:
    def slow(out: Path) -> dict[str, Any]:
        fs, at = opened(f"{root}/store/stage/.{artifact(root).key}.lock")
        fs.pipe_file(at, b'{"token": "of another machine"}')
        return build(out)

    with pytest.raises(InputError, match="another machine took over"):
        artifact(root).produce(slow)
    assert not artifact(root).finished


def test_who_lost_the_lock_of_a_run_leaves_it_as_another_made_it(
    root: str, on: Callable[[str], None]
) -> None:
    run = folder(root) / "runs" / "r"
    run.mkdir(parents=True)
    with remote.sent_back(run, lambda: False):
        (run / "error.txt").write_text("RuntimeError: too late\n")
    assert there(root) == set()


def test_a_name_that_leads_out_of_its_folder_is_not_fetched(
    on: Callable[[str], None], tmp_path: Path
) -> None:
    root = f"memory://{tmp_path.name}/bad"
    artifact(root).produce(build)
    fs, at = opened(address(artifact(root).path))
    fs.pipe_file(f"{at}/x", b"evil")
    fs.store[f"{at}/../../evil"] = fs.store.pop(f"{at}/x")
    on("b")
    with pytest.raises(InputError, match="outside its folder"):
        artifact(root).here()


class Refusing(MemoryFileSystem):
    protocol = "refusing"

    def pipe_file(self, *_: Any, **__: Any) -> None:
        raise PermissionError("403 Forbidden")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nodriver://bucket/x", "Install nodriver to reach it"),
        ("s4://bucket/x", "Protocol not known: s4"),
        ("refusing://bucket/x", "403 Forbidden"),
        ("ftp://me:secret@host/x", "holds a password"),
        ("simplecache::s3://bucket/x", "chained"),
    ],
)
def test_a_place_that_cannot_serve_is_one_sentence(on: Callable[[str], None], url: str, said: str) -> None:
    fsspec.register_implementation(
        "nodriver", "no_such_driver.FileSystem", clobber=True, errtxt="Install nodriver to reach it"
    )
    fsspec.register_implementation("refusing", Refusing, clobber=True)
    (problem,) = problems(url)
    assert said in problem
    assert "root=" in problem
    assert "secret" not in problem


def test_a_run_there_is_the_run_here(
    small_run: Callable[..., Run], on: Callable[[str], None], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    own = ("strategy=random", "evaluation.limit=2", "recipe.epochs=1")
    local = small_run(*own)
    execute(local)
    root = f"memory://{tmp_path.name}/study"
    run = small_run(*own, f"root={root}")
    assert HydraConfig.get().sweep.dir == str(folder(root) / "runs" / ".sweep"), (
        "Hydra's own files stay on this machine"
    )
    score = execute(run)

    timed = ("seconds/", "made_in/", "peak_gib/")
    mine, its = (
        {k: v for k, v in read_json(r.path / "result.json").items() if not k.startswith(timed)}
        for r in (run, local)
    )
    assert mine == its
    assert {
        f"runs/{run.slug}/{name}"
        for name in ("result.json", "run.log", "artifacts.json", ".hydra/config.yaml")
    } <= there(root)
    assert not [name for name in there(root) if name.endswith((".lock", ".partial"))]
    assert f"{root}/runs/{run.slug}" in capsys.readouterr().out

    left = stamps(root)
    on("b")
    again = small_run(*own, f"root={root}")
    assert again.done
    execute(small_run(*own, f"root={root}", "until=plan"))
    assert "to do" not in capsys.readouterr().out
    assert execute(again) == score
    assert stamps(root) == left, "a finished run is looked at and left as it is"
    assert not list(folder(root).rglob("*.safetensors")), "another's weights stay where they are"
    assert state(again.path) == ("done", "")
    assert report([f"{root}/runs", "--out", str(tmp_path / "report")]) == 0
    assert (tmp_path / "report" / "tasks.csv").is_file()
    assert report([f"{root}/elsewhere"]) == 1
    assert f"{root}/elsewhere: there is no such" in capsys.readouterr().err

    with pytest.raises(InputError, match="the pool holds 96"):  # as the corpus is known there
        small_run(*own, f"root={root}", "budget=97")
