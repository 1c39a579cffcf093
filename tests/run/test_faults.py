"""kill -9 in every stage, then the same command: it finishes and equals the undisturbed run. And two
terminals share a sweep."""

from __future__ import annotations

import signal
from pathlib import Path

from smartdpp.store.disk import file_hash, read_json
from tests.conftest import small
from tests.forked import MAIN, Forked

ROOT = Path(__file__).parents[2]

# Each stage is killed by its own process at a point that a real kill could hit, so that nothing here depends
# on timing.
BEGIN = """
import os, signal
def kill(): os.kill(os.getpid(), signal.SIGKILL)
from smartdpp.runtime import shards
from smartdpp.embedding.shards import embed
embed.__defaults__ = (16, 1)
"""
AT = {
    "embedding": """
save = shards._save
def killed(path, part):
    save(path, part)
    if path.name == 'shard-000000032.npy': kill()
shards._save = killed
""",
    "selection": """
from smartdpp.strategies import mixture
text = mixture.write_text
def killed(path, content):
    text(path, content)
    if path.name == 'mixture.jsonl': kill()
mixture.write_text = killed
""",
    "training": """
from transformers import Trainer
step = Trainer.training_step
def killed(self, *args, **kwargs):
    if self.state.global_step == 1: kill()
    return step(self, *args, **kwargs)
Trainer.training_step = killed
""",
    "evaluation": """
from smartdpp.evaluation import rows
write = rows.write_samples
def killed(path, samples):
    write(path, samples)
    kill()
rows.write_samples = killed
""",
    "nothing": "",
}


def start(point: str, *overrides: str) -> Forked:
    return Forked(*overrides, code=BEGIN + AT[point] + MAIN)


def finish(process: Forked, status: int) -> str:
    done = process.ended()
    said = done.stdout + done.stderr
    assert done.returncode == status, said
    return said


def results(root: Path) -> dict[str, object]:
    """Everything a run concludes, without the seconds and the bytes of memory it took."""
    (run,) = (root / "runs").glob("[!.]*")
    row = {
        name: value
        for name, value in read_json(run / "result.json").items()
        if name.partition("/")[0] not in ("seconds", "made_in", "peak_gib")
    }
    places = {name: Path(path) for name, path in read_json(run / "artifacts.json").items()}
    files = {
        "X": places["embedding"] / "X.npy",
        "mixture": places["mixture"] / "mixture.jsonl",
        "adapter": places["adapter"] / "adapter_model.safetensors",
        "samples": places["scores"] / "samples.jsonl",
    }
    return row | {name: file_hash(path) for name, path in files.items()}


def test_killed_at_every_stage_the_same_command_finishes_and_agrees(corpus: Path, tmp_path: Path) -> None:
    def overrides(root: str) -> list[str]:
        return [*small(corpus, tmp_path / root), "strategy=smart", "evaluation.tasks=[parity,copy]"]

    undisturbed = start("nothing", *overrides("calm"))
    for point in ("embedding", "selection", "training", "evaluation"):
        said = finish(start(point, *overrides("killed")), -signal.SIGKILL)
        assert not list((tmp_path / "killed").rglob("result.json")), said
    finish(start("nothing", *overrides("killed")), 0)
    finish(undisturbed, 0)
    (resumed,) = (tmp_path / "killed" / "store" / "embedding").glob("*/meta.json")
    assert read_json(resumed)["facts"]["resumed_rows"] == 48
    assert results(tmp_path / "killed") == results(tmp_path / "calm")
    assert not list((tmp_path / "killed").rglob("*.partial"))


def test_two_terminals_share_a_sweep(corpus: Path, tmp_path: Path) -> None:
    sweep = ["-m", *small(corpus, tmp_path), "strategy=random,equal,proportional"]
    terminals = [start("nothing", *sweep) for _ in range(2)]
    said = "".join(finish(terminal, 0) for terminal in terminals)
    rows = [read_json(path) for path in (tmp_path / "runs").glob("*/result.json")]
    assert sorted(row["strategy"] for row in rows) == ["equal", "proportional", "random"]
    built = [
        line
        for line in said.splitlines()
        if line.startswith(("corpus ", "embedding ", "adapter ", "base scores ", "scores "))
        and line.endswith(("GiB]", f"[taken from {line[-17:]}"))
    ]
    made = [
        path
        for stage in ("corpus", "embedding", "adapter", "scores")
        for path in (tmp_path / "store" / stage).glob("*/meta.json")
    ]
    assert len(built) == len(made) == 1 + 1 + 3 + 4, said
    assert sum("[taken from" in line for line in built) == 2, (
        "the tasks being of one size, equal and proportional choose the same rows"
    )


def test_ctrl_c_says_how_to_go_on(corpus: Path, tmp_path: Path) -> None:
    interrupted = AT["training"].replace("kill()", "raise KeyboardInterrupt")
    code = BEGIN + interrupted + MAIN
    done = Forked(*small(corpus, tmp_path), "strategy=random", code=code).ended()
    assert done.returncode == 1
    assert "the same command goes on" in done.stderr
    assert "Traceback" not in done.stderr
