"""``smartdpp pilot POOL TARGET``: would selection pay here?

    smartdpp pilot train.jsonl target.jsonl
    smartdpp pilot train.jsonl target.jsonl budget=200 minutes=60 root=pilots

POOL and TARGET are files or folders that corpus=jsonl reads. Part of the target's rows is scored, the rest is
known to the ways that choose towards it. Chance is compared with ways of choosing, one seed after another,
until the question is decided or the price is reached; beside them are the nearest rows alone, as a bound. The
settings are budget (rows of a mixture), full (rows of the mixture that you mean to train on, for its price),
documents and query (rows of each of the target's tasks that are scored, and that ways may know), minutes (the
price), matters (the smallest gain that would, in nats a token), ways (of choosing, all of
towards,diverse,fitting unless told; the last reads the whole pool with the model, which takes long where it
is large), root and out (folders); any other key=value is a run's, as recipe.epochs=3 or model=qwen3_0_6b.
What has run is found again by the same command.

It is a command of its own and no configuration of run.py, as it is many runs, and which come next depends on
how those before have ended.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from smartdpp.errors import Diverged, InputError
from smartdpp.logs import terminal
from smartdpp.logs.redact import redact
from smartdpp.pilot.cells import BOUNDS, NAMES, RANDOM, Asked, made
from smartdpp.pilot.page import Found, told
from smartdpp.pilot.sequential import LOOKS, verdict
from smartdpp.run.alone import prepared
from smartdpp.store.disk import write_text

OWN = ("budget", "full", "documents", "query", "minutes", "matters", "ways", "root", "out")


@dataclass(frozen=True)
class Options:
    asked: Asked
    minutes: float
    matters: float
    out: Path
    full: int | None = None  # rows of the mixture that is meant to be trained on
    ways: tuple[str, ...] = tuple(NAMES.values())  # that are tried beside chance


def main(argv: Sequence[str]) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="smartdpp pilot", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="+", help="the pool, the target, and key=value")
    terminal.start()
    try:
        options = _options(parser.parse_args(argv).what)
        found = run(options, print)
    except InputError as error:
        print(f"error: {redact(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    text, figure = told(found)
    options.out.mkdir(parents=True, exist_ok=True)
    write_text(options.out / "pilot.md", text)
    figure.savefig(options.out / "pilot.png", dpi=120, metadata={"Software": None})
    print(text)
    print(f"\nwritten into {options.out}: pilot.md, pilot.png")
    return 0


def run(options: Options, say: Callable[[str], Any]) -> Found:
    """Runs cells, seed by seed, until a look at them decides the question or the price is reached."""
    asked, begun = options.asked, time.monotonic()
    folders: dict[str, list[Path]] = {way: [] for way in (RANDOM, *options.ways, *BOUNDS)}
    left_out, found = list[str](), None
    for way in folders:
        prepared(asked.of(way, 0))  # what is wrong with any of them shows before the first one runs
    for seed in range(LOOKS[-1]):
        for way, done in list(folders.items()):
            try:
                done.append(made(asked, way, seed))
            except Diverged as error:
                if way == RANDOM or not set(folders) - {RANDOM, way, *BOUNDS}:
                    raise
                del folders[way]
                left_out.append(way)
                say(f"{way} is left out: under seed {seed} {str(error).splitlines()[0]}")
        spent = (time.monotonic() - begun) / 60
        dear = spent + spent / (seed + 1) > options.minutes
        if seed + 1 in LOOKS or dear:
            found = Found.of(asked, folders, options.matters, dear, spent, options.full, tuple(left_out))
            state = verdict(found.gains, options.matters).state if seed + 1 in LOOKS else "undecided"
            say(f"{seed + 1} seeds, {spent:.0f} min: {state}")
            if dear or state != "undecided":
                break
    assert found is not None
    return found


def _options(words: Sequence[str]) -> Options:
    own: dict[str, Any] = {}
    places: list[str] = []
    rest: list[str] = []
    for word in words:
        key, given, text = word.partition("=")
        if not given or Path(word).exists():
            places.append(word)
        elif key in OWN:
            own[key] = text if key in ("root", "out", "ways") else yaml.safe_load(text)
        else:
            rest.append(word)
    if len(places) != 2:
        raise InputError(
            "a pilot takes a pool and a target, two files or folders; given are "
            f"{', '.join(places) or 'none'}"
        )
    for name, least, kind in (
        ("budget", 1, int),
        ("full", 1, int),
        ("documents", 2, int),
        ("query", 1, int),
        ("minutes", 0, (int, float)),
        ("matters", 0, (int, float)),
    ):
        value = own.get(name, least)
        if not isinstance(value, kind) or isinstance(value, bool) or value < least:
            raise InputError(f"{name}={value}: give a number from {least} on")
    ways = list(dict.fromkeys(own.get("ways", ",".join(NAMES)).strip("[]").replace(" ", "").split(",")))
    if unknown := [way for way in ways if way not in NAMES]:
        raise InputError(f"ways={','.join(unknown)}: choose among {','.join(NAMES)}")
    fixed = [
        word
        for word in rest
        if word.partition("=")[0] in ("strategy", "quality", "corpus", "evaluation", "seed")
    ]
    if fixed:
        raise InputError(f"{fixed[0]}: a pilot sets it by itself")
    root = Path(own.get("root", "pilot")).expanduser()
    pool, target = (json.dumps(str(Path(place).expanduser()), ensure_ascii=False) for place in places)
    asked = Asked(
        pool, target, own.get("budget", 64), own.get("documents", 50), own.get("query", 8), root, tuple(rest)
    )
    return Options(
        asked,
        own.get("minutes", 120),
        own.get("matters", 0.05),
        Path(own.get("out", root)).expanduser(),
        own.get("full"),
        tuple(NAMES[way] for way in ways),
    )
