"""Where it runs: homes that are missing or cannot be written, temporary folders that are not there, output
that nobody reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from smartdpp.config.identity import at_home, container, identity
from smartdpp.errors import InputError
from smartdpp.run.pipeline import prepare
from smartdpp.store import place

ROOT = Path(__file__).parents[2]
NOWHERE = "/dev/null/nowhere"  # not even root can make this
NO_NAME = "import pwd\ndef unknown(uid): raise KeyError(uid)\npwd.getpwuid = unknown\n"


def run(code: str, shell: str = "", **environment: str) -> subprocess.CompletedProcess:
    """The code in a Python of its own with this environment alone, its output going through ``shell`` (``|
    head -1``)."""
    command = ["bash", "-c", f'"$0" -c "$1" {shell}; exit ${{PIPESTATUS[0]}}', sys.executable, code]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment},
        timeout=60,
    )


def settled(before: str = "", **environment: str) -> dict[str, str]:
    """The environment after ``import smartdpp``."""
    done = run(
        f"{before}\nimport json, os, getpass, "
        "smartdpp\ngetpass.getuser()\nprint(json.dumps(dict(os.environ)))",
        **environment,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_home_that_can_be_written_is_left_alone(tmp_path: Path) -> None:
    found = settled(HOME=str(tmp_path), TMPDIR=str(tmp_path))
    assert not {*place.CACHES, *place.XDG, "SMARTDPP_CACHE"} & set(found)
    assert (found["HOME"], found["TMPDIR"]) == (str(tmp_path), str(tmp_path))


def test_libraries_caches_go_below_ours_where_it_is_named(tmp_path: Path) -> None:
    own = str(tmp_path / "mine")
    found = settled(HOME=str(tmp_path), SMARTDPP_CACHE=str(tmp_path / "cache"), MPLCONFIGDIR=own)
    assert found["MPLCONFIGDIR"] == own
    for variable, (name, _) in place.CACHES.items():
        if variable != "MPLCONFIGDIR":
            assert found[variable] == str(tmp_path / "cache" / name)


def test_models_that_are_there_are_not_fetched_again(tmp_path: Path) -> None:
    (tmp_path / ".cache" / "huggingface").mkdir(parents=True)
    found = settled(HOME=str(tmp_path), SMARTDPP_CACHE=str(tmp_path / "cache"))
    assert "HF_HOME" not in found
    assert found["TORCH_HOME"] == str(tmp_path / "cache" / "torch")


@pytest.mark.parametrize("home", [NOWHERE, None], ids=["a home that cannot be made", "no home and no name"])
def test_without_a_home_all_goes_to_the_temporary_folder(tmp_path: Path, home: str | None) -> None:
    environment = {"TMPDIR": str(tmp_path)} | ({"HOME": home} if home else {})
    found = settled("" if home else NO_NAME, **environment)
    own = tmp_path / f"smartdpp-{os.getuid()}"
    assert found["SMARTDPP_CACHE"] == str(own)
    assert own.stat().st_mode & 0o777 == 0o700
    assert found["HF_HOME"] == str(own / "huggingface")
    assert found["XDG_CONFIG_HOME"] == str(own / "xdg" / "config")
    assert found["HOME"] == (home or str(own))
    if home is None:
        assert found["LOGNAME"] == f"uid{os.getuid()}"


def test_a_folder_that_another_could_fill_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("HOME", NOWHERE)
    monkeypatch.delenv("SMARTDPP_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    own = tmp_path / f"smartdpp-{os.getuid()}"
    assert place.cache_dir() == own
    own.chmod(0o777)
    with pytest.raises(InputError, match="set SMARTDPP_CACHE=FOLDER"):
        place.cache_dir()
    own.rmdir()
    (tmp_path / "others").mkdir()
    own.symlink_to(tmp_path / "others")
    with pytest.raises(InputError, match="set SMARTDPP_CACHE=FOLDER"):
        place.cache_dir()


def test_a_temporary_folder_that_is_not_there_is_replaced_by_one_that_is(tmp_path: Path) -> None:
    found = settled(HOME=str(tmp_path), TMPDIR=str(tmp_path / "gone"), TMP=str(tmp_path))
    assert found["TMPDIR"] == str(tmp_path)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("file", "this is no folder"),
        ("link", "a link to gone, which is not there"),
        ("nowhere", "cannot be made"),
    ],
)
def test_a_cache_that_cannot_be_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, said: str
) -> None:
    there = Path(NOWHERE) if kind == "nowhere" else tmp_path / "cache"
    if kind == "file":
        there.write_text("")
    elif kind == "link":
        there.symlink_to("gone")
    monkeypatch.setenv("SMARTDPP_CACHE", str(there))
    assert [said in problem for problem in place.problems()] == [True]


def test_the_home_folder_may_be_written_as_in_a_shell(
    configure, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(corpus.parent))
    cfg, plain = (
        configure("root='~/out'", f"corpus.path='~/{corpus.name}'"),
        configure(f"root={corpus.parent}/out"),
    )
    runs = [prepare(each, {"strategy": "smart", "embedding": "tfidf"}) for each in (cfg, plain)]
    assert runs[0].path == runs[1].path
    assert runs[0].path.is_relative_to(corpus.parent / "out")
    assert identity(cfg, runs[0].parts) == identity(plain, runs[1].parts)
    assert container(cfg)["corpus"]["path"] == str(corpus)
    assert at_home({"evaluation": {"include_path": "~/tasks"}, "columns": {"task": "~/x"}}) == {
        "evaluation": {"include_path": f"{corpus.parent}/tasks"},
        "columns": {"task": "~/x"},
    }


def test_a_user_of_no_name_is_no_home(configure) -> None:
    with pytest.raises(InputError, match="no user of that name"):
        prepare(configure("root='~nobody-has-this-name/x'"), {})


@pytest.mark.parametrize("name", ["root", "root/store"])
def test_a_link_that_leads_nowhere_is_named(configure, tmp_path: Path, name: str) -> None:
    link = tmp_path / name
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(tmp_path / "gone")
    with pytest.raises(
        InputError, match=rf"root={tmp_path}/root: {link} is a link to {tmp_path}/gone, which is not there"
    ):
        prepare(configure(f"root={tmp_path}/root"), {})


STREAMS = (
    "import sys\nfrom smartdpp.logs.terminal import start\nstart()\nimport logging\nsay = "
    "logging.getLogger('smartdpp').info\n"
)


def test_output_that_nobody_reads_ends_nothing(tmp_path: Path) -> None:
    code = (
        f"{STREAMS}for i in range(3000): say('line %d', i); print('x' * 100)\nsys.stderr.write('reached "
        "the end\\n')"
    )
    done = run(code, "| head -1", HOME=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "line 0\n")
    assert done.stderr == "reached the end\n"
    assert run(code, ">&-", HOME=str(tmp_path)).returncode == 0
    assert run(code, "2>&1 | true", HOME=str(tmp_path)).returncode == 0
    full = run(code, ">/dev/full", HOME=str(tmp_path))
    assert full.returncode == 0
    assert (
        full.stderr
        == "warning: standard output cannot be written (No space left on device); the run goes on "
        "without\nreached the end\n"
    )


def test_what_an_encoding_lacks_is_written_as_its_number(tmp_path: Path) -> None:
    done = run(f"{STREAMS}say('λ → %s', 'x')\nprint('задача')", HOME=str(tmp_path), PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [r"\u03bb \u2192 x", "".join(f"\\u{ord(c):04x}" for c in "задача")]


def test_no_secret_is_shown(tmp_path: Path) -> None:
    code = (
        f"{STREAMS}print('pass', 'sword-fish-1')\nsay('sword-fish-1')\nraise ValueError('s3://a:b@c and "
        "sword-fish-1')"
    )
    done = run(code, HOME=str(tmp_path), DB_PASS="sword-fish-1")
    assert done.stdout == "pass <DB_PASS>\n<DB_PASS>\n"
    assert "ValueError: s3://<redacted>@c and <DB_PASS>" in done.stderr
