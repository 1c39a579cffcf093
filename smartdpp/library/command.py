"""``smartdpp select FILE budget=1000 out=CHOSEN``: smartdpp.select from a shell.

    smartdpp select train.json budget=1000 out=chosen.json
    smartdpp select data/ budget=500 out=chosen.jsonl strategy=dpp strategy.theta=0.1 embedding=tfidf
    task=source

FILE is what corpus=jsonl reads: a file, a folder, a glob in quotes. The chosen records come out as they went
in, with smartdpp_rank and smartdpp_gain beside their fields, in the format that the ending of out= says:
.json, .jsonl, .csv, .tsv, .parquet. Other settings are those of smartdpp.select: strategy, embedding,
quality, task_vector, model (and options of theirs, as strategy.theta=0.1), query=FILE, task=FIELD (or
task=cluster, clusters=8), columns.prompt=FIELD, max_tokens, seed; budget_tokens in place of budget;
tokens_by, weights.TASK=2, max_share, repeat, start=FILE.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from smartdpp.corpus import originals
from smartdpp.errors import InputError, did_you_mean
from smartdpp.library.select import select
from smartdpp.logs import terminal
from smartdpp.logs.redact import redact
from smartdpp.store.disk import DISK_ERRORS

WITH_OPTIONS = ("strategy", "embedding", "quality", "task_vector", "model")
ASKED = ("budget_tokens", "tokens_by", "weights", "max_share", "repeat", "start")
SETTINGS = ("budget", "out", "query", "task", "clusters", "max_tokens", "seed", *WITH_OPTIONS, *ASKED)
INSIDE = (*WITH_OPTIONS, "columns", "constants", "weights")


def main(argv: Sequence[str]) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="smartdpp select", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="+", help="a file or folder, and key=value")
    terminal.start()
    try:
        source, out, settings = _settings(parser.parse_args(argv).what)
        chosen = select(source, **settings)
        originals.write(chosen, out, originals.schema(source) if out.suffix.lower() == ".parquet" else None)
    except InputError as error:
        print(f"error: {redact(str(error))}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        print(f"error: cannot write {error.filename}: {error.strerror}. Choose another out=", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    print(f"{len(chosen)} rows written to {out}")
    return 0


def _settings(words: Sequence[str]) -> tuple[str, Path, dict[str, Any]]:
    """The file, where to write, and arguments of `select`. InputError for a word that means nothing."""
    sources: list[str] = []
    found: dict[str, Any] = {}
    for word in words:
        key, given, text = word.partition("=")
        top, _, inside = key.partition(".")
        if not given or not key.replace(".", "").replace("_", "").isalnum() or Path(word).exists():
            sources.append(word)
        elif inside and top in INSIDE:
            found.setdefault(f"{top}_options" if top in WITH_OPTIONS else top, {})[inside] = _value(text)
        elif key in SETTINGS:
            found[key] = text if key in ("out", "query", "start") else _value(text)
        else:
            known = [*SETTINGS, *INSIDE[len(WITH_OPTIONS) :]]
            raise InputError(f"{word}: there is no setting {key!r}; {did_you_mean(key, known)}")
    if len(sources) != 1:
        raise InputError(
            f"one file or folder is chosen from, and {len(sources)} are given: {', '.join(sources) or 'none'}"
        )
    if "out" not in found:
        raise InputError("out: say where the chosen rows go, as out=chosen.jsonl")
    out = Path(found.pop("out")).expanduser()
    originals.check(out)
    if (
        out.exists()
        and Path(sources[0]).expanduser().exists()
        and out.samefile(Path(sources[0]).expanduser())
    ):
        raise InputError(f"out={out}: this is what is chosen from; name another file")
    return sources[0], out, found


def _value(text: str) -> Any:
    """As YAML has it: a number, true, null, a list in brackets, or text."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text
