"""What a power cut, a damaged disk, a copy gone wrong and a full disk leave: found, said, and made again."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from smartdpp.errors import InputError
from smartdpp.functions import storage
from smartdpp.greedy.picks import Picks
from smartdpp.run import verify
from smartdpp.runtime import shards
from smartdpp.store import artifact, disk, locks
from smartdpp.store.artifact import Artifact, publish

ROWS = pa.table({"id": [str(i) for i in range(10)]})


class Numbers:
    """Row i is (i, 2 i)."""

    def __init__(self) -> None:
        self.made: list[int] = []

    def prepare(self, rows: pa.Table) -> Callable[[pa.Table], np.ndarray]:
        def encode(part: pa.Table) -> np.ndarray:
            numbers = [int(i) for i in part["id"].to_pylist()]
            self.made += numbers
            return np.array([[i, 2 * i] for i in numbers], dtype=np.float32)

        return encode


def build(out: Path) -> dict[str, object]:
    shards.run(Numbers(), ROWS, out, "numbers", shard=4)
    (out / "inner").mkdir(exist_ok=True)
    (out / "inner" / "rows.jsonl").write_text('{"a": 1}\n' * 1000)
    return {"n": 10}


@pytest.fixture
def made(tmp_path: Path) -> Artifact:
    one = Artifact(tmp_path, "embedding", 1, {}, {})
    one.produce(build)
    return one


def flip(path: Path) -> None:
    """One bit, in the middle; size and time stay as they were."""
    content, stat = bytearray(path.read_bytes()), path.stat()
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))


def _first(path: str) -> str:
    """Under which name a file that is written all or nothing is synced."""
    return str(Path(path).with_name(f".{Path(path).name}.{os.getpid()}"))


@contextmanager
def recorded(patch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, ...]]]:
    """(sync, path) and (rename, old, new) as they happen."""
    events: list[tuple[str, ...]] = []
    fsync, replace, rename = os.fsync, os.replace, os.rename

    def synced(descriptor: int) -> None:
        events.append(("sync", os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def renamed(old: object, new: object, real: Callable[..., None]) -> None:
        inside = [str(path) for path in Path(str(old)).rglob("*")] if Path(str(old)).is_dir() else []
        events.append(("rename", str(old), str(new), *inside))
        real(old, new)

    with patch.context() as within:
        within.setattr(os, "fsync", synced)
        within.setattr(os, "replace", lambda old, new: renamed(old, new, replace))
        within.setattr(os, "rename", lambda old, new: renamed(old, new, rename))
        yield events


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_every_rename_follows_the_syncs_of_what_it_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with recorded(monkeypatch) as events:
        Artifact(tmp_path, "embedding", 1, {}, {}).produce(build)
    moved = [i for i, event in enumerate(events) if event[0] == "rename"]
    assert [Path(events[i][2]).name for i in moved if events[i][3:]] == [
        Artifact(tmp_path, "embedding", 1, {}, {}).key
    ]
    for i in moved:
        _, old, new, *inside = events[i]
        before = {event[1] for event in events[:i] if event[0] == "sync"}
        missing = [path for path in (inside or [old]) if not {path, _first(path)} & before]
        assert not missing, f"{new} is renamed before {missing}"
        assert ("sync", str(Path(new).parent)) in events[i:], "and so is the name"


def _mounted(image: Path, at: Path) -> bool:
    at.mkdir(exist_ok=True)
    return subprocess.run(["mount", "-o", "loop", str(image), str(at)], capture_output=True).returncode == 0


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("mkfs.ext4"),
    reason="mounting a disk of one's own needs root and ext4",
)
def test_a_power_cut_after_publishing_leaves_whole_files(tmp_path: Path) -> None:
    image, cut, at = tmp_path / "disk", tmp_path / "as the power cut left it", tmp_path / "mounted"
    with image.open("wb") as file:
        file.truncate(2**25)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    if not _mounted(image, at):
        pytest.skip("this container mounts nothing")
    try:
        one = Artifact(at, "embedding", 1, {}, {})
        one.produce(build)
        shutil.copyfile(image, cut)  # what has reached the disk; what has not is lost
    finally:
        subprocess.run(["umount", str(at)], check=True)
    assert _mounted(cut, at)
    try:
        assert disk.damage(one.path, whole=True) is None
        np.testing.assert_array_equal(shards.load(one.here())[:, 1], 2 * np.arange(10))
    finally:
        subprocess.run(["umount", str(at)], check=True)


def test_files_are_recorded_with_size_and_hash(made: Artifact) -> None:
    files = made.meta()["files"]
    assert sorted(files) == ["X.npy", "inner/rows.jsonl", "manifest.json"]
    assert files["X.npy"] == {"bytes": 128 + 80, "sha256": disk.file_hash(made.path / "X.npy")}


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "missing": lambda path: path.unlink(),
}


@pytest.mark.parametrize("name", ["X.npy", "inner/rows.jsonl", "meta.json"])
@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_artifact_is_told_and_made_again(
    made: Artifact, name: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    DAMAGES[how](made.path / name)
    assert not made.finished
    assert made.produce(build) is False
    assert f"{made.path} is damaged ({name} " in caplog.text
    assert made.finished
    np.testing.assert_array_equal(shards.load(made.here())[:, 0], np.arange(10))
    assert [path.name for path in made.path.parent.iterdir() if path.suffix != ".lock"] == [made.key]


@pytest.mark.parametrize("meta", ["[]", '{"facts": {}, "files": 3}', '{"files": {"X.npy": 7}}'])
def test_a_record_that_is_none_is_damage(made: Artifact, meta: str) -> None:
    (made.path / "meta.json").write_text(meta)
    assert not made.finished
    assert made.produce(build) is False


def test_one_flipped_bit_is_found_where_the_file_is_read(made: Artifact) -> None:
    made.here()
    flip(made.path / "X.npy")
    with pytest.raises(
        InputError, match=r"X\.npy has another content than was written .*smartdpp\.store verify .* removes"
    ) as caught:
        made.here()
    assert str(made.path) in str(caught.value)
    with pytest.raises(InputError, match="another content"):
        made.file("X.npy")
    assert made.file("inner/rows.jsonl").is_file()


def test_verify_removes_what_is_damaged_and_says_it(
    made: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify.main(["verify", str(tmp_path)]) == 0
    flip(made.path / "X.npy")
    assert verify.main(["verify", "--keep", str(tmp_path)]) == 1
    assert made.path.is_dir()
    assert verify.main(["verify", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert f"removed: {made.path}: X.npy has another content" in said
    assert f"{tmp_path}: 1 finished, 1 damaged; the commands that need them make them again" in said
    assert not made.path.exists()
    assert made.produce(build) is False
    assert verify.main(["verify", str(tmp_path)]) == 0


def test_verify_leaves_what_a_process_works_on(
    made: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(made.path / "X.npy")
    with locks.lock(made.path):
        assert verify.main(["verify", str(tmp_path)]) == 1
    assert "left as a process is working on it" in capsys.readouterr().out
    assert made.path.is_dir()


def test_verify_sees_results_of_runs(
    made: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "runs" / "a"
    run.mkdir(parents=True)
    (run / "result.json").write_text('{"run": "a", "lo')
    assert verify.main(["verify", str(tmp_path)]) == 1
    assert "result.json is no JSON" in capsys.readouterr().out
    assert not (run / "result.json").exists()


def test_verify_from_the_command_line(made: Artifact, tmp_path: Path) -> None:
    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "smartdpp.store", *argv]
        return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])

    flip(made.path / "X.npy")
    found = run("verify", str(tmp_path))
    assert (found.returncode, found.stderr) == (1, "")
    assert "1 damaged" in found.stdout
    assert "no store/ and no runs/ in this folder" in run("verify", str(tmp_path / "nowhere")).stderr
    assert "compares it with its recorded hash" in " ".join(run("verify", "--help").stdout.split())


def test_an_artifact_made_before_there_were_records_is_accepted(
    made: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    meta = made.meta()
    del meta["files"]
    disk.write_json(made.path / "meta.json", meta)
    assert made.finished
    assert made.here() == made.path
    assert made.produce(build) is True
    assert verify.main(["verify", str(tmp_path)]) == 0
    assert "1 were made before hashes were recorded" in capsys.readouterr().out
    DAMAGES["cut"](made.path / "X.npy")
    assert verify.main(["verify", str(tmp_path)]) == 1
    assert "X.npy is cut or overwritten" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["x.npy", "x.safetensors", "x.parquet", "x.json", "x.jsonl"])
@pytest.mark.parametrize("how", ["empty", "cut"])
def test_the_formats_we_write_show_that_they_are_cut(tmp_path: Path, name: str, how: str) -> None:
    import pyarrow.parquet as pq
    from safetensors.numpy import save_file

    path = tmp_path / name
    {
        "x.npy": lambda: np.save(path, np.ones((3, 4))),
        "x.safetensors": lambda: save_file({"w": np.ones(5)}, path),
        "x.parquet": lambda: pq.write_table(ROWS, path),
        "x.json": lambda: path.write_text('{"a": [1, 2]}'),
        "x.jsonl": lambda: path.write_text('{"a": 1}\n{"a": 22222222}\n'),
    }[name]()
    assert list(disk.seems_cut(tmp_path)) == []
    DAMAGES[how](path)
    if name != "x.jsonl" or how == "cut":  # a file of no lines is whole
        assert list(disk.seems_cut(tmp_path)) == [f"{name} is cut or overwritten"]


@pytest.mark.parametrize("how", ["empty", "cut"])
def test_a_cut_shard_is_told_and_made_again(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Dies(Numbers):
        def prepare(self, rows: pa.Table) -> Callable[[pa.Table], np.ndarray]:
            encode = super().prepare(rows)

            def until(part: pa.Table) -> np.ndarray:
                if len(self.made) == 8:
                    raise KeyboardInterrupt
                return encode(part)

            return until

    with pytest.raises(KeyboardInterrupt):
        shards.run(Dies(), ROWS, tmp_path, "numbers", shard=4)
    DAMAGES[how](tmp_path / "shard-000000004.npy")
    again = Numbers()
    shards.run(again, ROWS, tmp_path, "numbers", shard=4)
    assert again.made == [4, 5, 6, 7, 8, 9]
    assert "shard-000000004.npy is cut or overwritten: its 4 rows are made again" in caplog.text
    np.testing.assert_array_equal(shards.load(tmp_path)[:, 0], np.arange(10))


@pytest.mark.parametrize("content", ["", '{"rows": 10, "sha', "[]"])
def test_a_cut_manifest_is_told_and_all_is_made_again(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    np.save(tmp_path / "shard-000000000.npy", np.full((4, 2), 7, dtype=np.float32))
    (tmp_path / "manifest.json").write_text(content)
    again = Numbers()
    shards.run(again, ROWS, tmp_path, "numbers", shard=4)
    assert again.made == list(range(10))
    assert "manifest.json" in caplog.text
    assert "1 shards beside it are made again" in caplog.text


def test_a_build_that_fails_on_what_was_left_is_tried_once_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    partial = tmp_path / "x.partial"
    partial.mkdir()
    (partial / "of an older version").write_text("?")

    def build(out: Path) -> dict[str, object]:
        if any(out.iterdir()):
            raise KeyError("layout")
        (out / "new").write_text("new")
        return {}

    assert publish(tmp_path / "x", build) is False
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == ["meta.json", "new"]
    assert "cannot be gone on from (KeyError: 'layout'): starting afresh" in caplog.text
    assert not list(tmp_path.glob("*.aside"))


def test_a_build_that_fails_either_way_loses_nothing(tmp_path: Path) -> None:
    partial, tries = tmp_path / "x.partial", []
    partial.mkdir()
    (partial / "hours of work").write_text("work")

    def build(out: Path) -> dict[str, object]:
        tries.append(sorted(path.name for path in out.iterdir()))
        raise ValueError("no such layout")

    with pytest.raises(ValueError, match="no such layout"):
        publish(tmp_path / "x", build)
    assert tries == [["hours of work"], []]
    assert (partial / "hours of work").read_text() == "work"


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: out of memory"),
        ConnectionError("no answer"),
        PermissionError(13, "denied"),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_passes_costs_nothing_that_was_left(tmp_path: Path, error: Exception) -> None:
    """A device that another process holds, say: the same command goes on from the checkpoint when it is
    free."""
    partial, tries = tmp_path / "x.partial", []
    partial.mkdir()
    (partial / "checkpoint").write_text("900 steps")

    def build(out: Path) -> dict[str, object]:
        tries.append(sorted(path.name for path in out.iterdir()))
        if len(tries) == 1:
            raise error
        return {}

    with pytest.raises((type(error), InputError)):
        publish(tmp_path / "x", build)
    publish(tmp_path / "x", build)
    assert tries == [["checkpoint"], ["checkpoint"]]


def test_what_the_attempt_without_has_done_is_gone_on_from(tmp_path: Path) -> None:
    partial, tries = tmp_path / "x.partial", []
    partial.mkdir()
    (partial / "old").write_text("?")

    def build(out: Path) -> dict[str, object]:
        tries.append(sorted(path.name for path in out.iterdir()))
        if "old" in tries[-1]:
            raise KeyError("layout")
        (out / "new").write_text("new")
        if len(tries) == 2:
            raise RuntimeError("CUDA error")
        return {}

    with pytest.raises(RuntimeError, match="CUDA error"):
        publish(tmp_path / "x", build)
    publish(tmp_path / "x", build)
    assert tries == [["old"], [], ["new"]]


def test_what_may_not_be_read_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """A colleague's artifact, or a network disk that does not answer: nothing is removed, by a run or by
    verify."""
    folder = tmp_path / "store" / "adapter" / "0123456789abcdef"
    publish(folder, lambda out: (out / "w.bin").write_bytes(b"weights") and {})
    read = Path.read_bytes

    def refused(path: Path) -> bytes:
        if path.name == "meta.json":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(
        InputError, match=r"meta\.json cannot be read \(Permission denied\); nothing was removed"
    ):
        publish(folder, lambda out: {})
    assert verify.main(["verify", str(tmp_path)]) == 1
    assert "kept: " in capsys.readouterr().out
    assert (folder / "w.bin").read_bytes() == b"weights"


def test_verify_keeps_folders_that_it_has_not_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("SMARTDPP_CACHE", str(tmp_path / "cache"))
    mine = [tmp_path / "store" / "adapter" / "my-notes", tmp_path / "cache" / "models" / "my-own-encoder"]
    ours = [
        tmp_path / "store" / "adapter" / "0123456789abcdef",
        tmp_path / "cache" / "models" / "smollm2_135m-bcc81830",
    ]
    for folder in (*mine, *ours):
        folder.mkdir(parents=True)
        (folder / "file").write_text("hours of work")
    verify.main(["verify", str(tmp_path)])
    said = capsys.readouterr().out
    assert [folder.exists() for folder in (*mine, *ours)] == [True, True, False, False]
    assert all(f"kept: {folder}: meta.json is missing" in said for folder in mine)


@pytest.mark.parametrize("at", ["x", "x.partial"])
def test_a_file_in_the_place_of_a_folder_gives_way(tmp_path: Path, at: str) -> None:
    (tmp_path / at).write_text("?")
    assert publish(tmp_path / "x", lambda out: {}) is False
    assert artifact.finished(tmp_path / "x")


@pytest.mark.parametrize("kept", [0, 0.5])
def test_a_cut_selection_begins_again(tmp_path: Path, kept: float, caplog: pytest.LogCaptureFixture) -> None:
    picks = Picks(5, checkpoint=tmp_path / "picks.npz", problem="p")
    picks.append(3, 1.0)
    picks.save()
    content = (tmp_path / "picks.npz").read_bytes()
    (tmp_path / "picks.npz").write_bytes(content[: int(kept * len(content))])
    assert len(Picks(5, checkpoint=tmp_path / "picks.npz", problem="p").resume()) == 0
    assert "picks.npz is cut: the selection starts afresh" in caplog.text


def _no_room(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_without_room_for_a_map_is_told_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Into a map with no room behind it, the first write would end the process with SIGBUS."""
    monkeypatch.setattr(os, "posix_fallocate", _no_room)
    with pytest.raises(InputError, match=r"cannot write .*: No space left on device"):
        Artifact(tmp_path, "embedding", 1, {}, {}).produce(build)
    monkeypatch.setattr(storage, "FREE_SHARE", 0.0)
    import torch

    with pytest.raises(InputError, match=r"has no room for it \(No space left on device\): .*TMPDIR"):
        storage.storage(10, 10, torch.float32, torch.device("cpu"))


@pytest.mark.parametrize("refused", [errno.EOPNOTSUPP, None])
def test_room_is_taken_also_where_the_filesystem_reserves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: int | None
) -> None:
    if refused:
        monkeypatch.setattr(os, "posix_fallocate", lambda *_: (_ for _ in ()).throw(OSError(refused, "no")))
    X = shards.new_map(tmp_path / "X.npy", np.dtype(np.float32), (1000, 700))
    assert (tmp_path / "X.npy").stat().st_blocks * 512 >= 4 * 700_000
    assert X.shape == (1000, 700)
    assert not X.any()
    X[:] = 1
    X.flush()
    assert np.load(tmp_path / "X.npy").sum() == 700_000
