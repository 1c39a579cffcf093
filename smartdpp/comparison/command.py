"""Datasets side by side: every measure of each, at one number of rows, as a table and one figure; nothing is
trained.

    python -m smartdpp.diversity FILE_OR_CORPUS ... embedding=minilm [by=dataset] [rows=200] [n=100]
    [diversity.log_det.gamma=10]

FILE is JSON lines (.jsonl or .jsonl.gz) or a folder of them; CORPUS an option of conf/corpus, whose
parameters are given as for run.py (corpus.per_family=50). by= splits each by dataset, task, source or
template. Written into out/: diversity.csv, diversity.md, diversity.png, and with sensitivity=true
sensitivity.csv.

Fair by construction: a set of more than ``rows`` rows is cut to that many by a seeded draw, and the log
determinant distances are read at one n. A set with fewer rows is measured whole and marked as too small: its
numbers do not compare, and its distance is given only if it reaches n.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smartdpp.comparison.compare import compare, grid, markdown, printed, write
from smartdpp.comparison.figure import draw
from smartdpp.comparison.sets import By, Rows, embed, read
from smartdpp.config.check import component
from smartdpp.config.compose import compose_here, conf_dir
from smartdpp.config.identity import at_home
from smartdpp.corpus.files import stem
from smartdpp.corpus.jsonl import Jsonl
from smartdpp.corpus.notes import noted, said
from smartdpp.diversity.components import AllMeasures
from smartdpp.diversity.sensitivity import sensitivity, summary
from smartdpp.errors import InputError
from smartdpp.logs.terminal import streams
from smartdpp.store.disk import DISK_ERRORS, write_text
from smartdpp.store.remote import folder, problems


@dataclass(frozen=True)
class Options:
    """What the command line sets itself; everything else goes to the embedding, the corpus or the
    measures."""

    by: By | None = None
    rows: int | None = None
    n: int | None = None
    seed: int = 0
    out: str = "diversity"
    root: str = "."
    sensitivity: bool = False

    def __post_init__(self) -> None:
        for name in ("rows", "n"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name}={value}: give a positive number, or leave it out.")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m smartdpp.diversity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", nargs="+", help="files, folders or options of conf/corpus; and key=value")
    streams()
    words = parser.parse_args(argv).what
    assignments = [word for word in words if re.match(r"[a-z_.]+=", word)]
    try:
        options, overrides = _options(assignments)
        sources = [word for word in words if word not in assignments]
        _compare(sources, options, overrides)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        print(
            f"error: cannot write {error.filename}: {error.strerror}. Choose another folder with out= or "
            "root=",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _compare(sources: list[str], options: Options, overrides: list[str]) -> None:
    from rich.console import Console

    if not sources:
        raise InputError(
            "nothing to compare: give files of JSON lines or options of conf/corpus before the key=value "
            "words"
        )
    settings = node("embedding", [word for word in overrides if not word.startswith("corpus")])
    embedding = component("embedding", settings)
    measures = component(
        "diversity", node("diversity", [word for word in overrides if not word.startswith("corpus")])
    )
    if not isinstance(measures, AllMeasures):
        raise InputError(
            "diversity: this command needs all the measures; leave it out, or set diversity.log_det.gamma "
            "and the like"
        )
    if found_problems := [*embedding.check(), *problems(options.root)]:
        raise InputError("\n".join(found_problems))
    corpora = {
        name: _corpus(source, overrides) for name, source in zip(_names(sources), sources, strict=True)
    }
    with noted() as notes:
        sets = read(corpora, options.by, options.rows, options.seed)
    for sentence in said(notes.facts()):
        print(sentence, file=sys.stderr)
    if options.rows is None:  # the smallest set decides
        smallest = min(len(one.rows) for one in sets)
        sets = [Rows(one.name, one.rows[:smallest], one.total) for one in sets]
    vectors = embed(sets, embedding, settings, folder(options.root))
    found = compare(sets, vectors, measures, options.n)
    console = Console(width=None if sys.stdout.isatty() else 220)
    for table in printed(found):
        console.print(table)
    for note in found.notes:
        console.print(note, highlight=False, markup=False)
    out = Path(options.out).expanduser()
    out.mkdir(parents=True, exist_ok=True)
    files = write(found, out)
    if options.sensitivity:
        matrices = {one.name: X for one, X in zip(sets, vectors, strict=True) if len(one.rows) == found.rows}
        moved = sensitivity(
            matrices,
            kernel=measures.log_det.kernel,
            gamma=measures.log_det.gamma,
            truncate=measures.log_det.truncate,
        )
        write_text(out / "sensitivity.csv", moved.to_csv(index=False))
        write_text(
            out / "diversity.md",
            (out / "diversity.md").read_text(encoding="utf-8")
            + f"\n## Sensitivity\n\n{markdown(summary(moved))}\n",
        )
        console.print(grid(summary(moved), "What the log determinant distance hangs on"))
        console.print(
            "One choice varied at a time, each read at the largest n that every full set then keeps; "
            "τ: 1 is the ranking above, -1 its reverse.",
            highlight=False,
        )
        files.append(out / "sensitivity.csv")
    files.append(draw(found, out / "diversity.png"))
    print(f"written into {out}: {', '.join(file.name for file in files)}")


def _options(assignments: list[str]) -> tuple[Options, list[str]]:
    """Our own options, and what is left for Hydra."""
    from pydantic import TypeAdapter, ValidationError

    own, rest = {}, []
    for word in assignments:
        key, _, value = word.partition("=")
        if key in Options.__dataclass_fields__:
            own[key] = None if value in ("null", "none") else value
        elif key.split(".")[0] in ("embedding", "corpus", "diversity", "model"):
            rest.append(word)
        else:
            known = ", ".join(
                [
                    *Options.__dataclass_fields__,
                    "embedding",
                    "model",
                    "embedding.*",
                    "corpus.*",
                    "diversity.*",
                ]
            )
            raise InputError(f"{word}: there is no option {key!r}; there are {known}")
    try:
        return TypeAdapter(Options).validate_python(own), rest
    except ValidationError as error:
        problem = error.errors()[0]
        if isinstance(cause := problem.get("ctx", {}).get("error"), InputError):
            raise cause from None
        raise InputError(f"{problem['loc'][0]}={problem['input']}: {problem['msg'].lower()}") from None


def node(group: str, overrides: list[str]) -> dict[str, Any]:
    """The configuration of one component in the default run with these overrides."""
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    usual = [] if any(word.startswith("diversity=") for word in overrides) else ["diversity=all"]
    try:
        cfg = compose_here([*usual, *overrides])
        return at_home(OmegaConf.to_container(cfg[group], resolve=True))
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(" ".join(str(error).split())) from None


def _corpus(source: str, overrides: list[str]) -> Any:
    if Path(source).expanduser().exists():
        corpus: Any = Jsonl(source)
    elif (conf_dir() / "corpus" / f"{source}.yaml").is_file():
        corpus = component("corpus", node("corpus", [f"corpus={source}", *overrides]))
    else:
        options = ", ".join(sorted(path.stem for path in (conf_dir() / "corpus").glob("*.yaml")))
        raise InputError(
            f"{source}: there is no such file or folder, and no such corpus; corpora are {options}"
        )
    if problems := corpus.check():
        raise InputError("\n".join(problems))
    return corpus


def _names(sources: list[str]) -> list[str]:
    """A file's name without its suffixes, a corpus's own; where two are the same, as given."""
    short = [stem(Path(source)) for source in sources]
    if len(set(sources)) < len(sources):
        raise InputError(
            "a file or corpus is given twice: "
            + ", ".join(sorted({s for s in sources if sources.count(s) > 1}))
        )
    return [name if short.count(name) == 1 else source for name, source in zip(short, sources, strict=True)]
