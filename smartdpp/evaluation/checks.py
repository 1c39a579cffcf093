"""Ranges and names in the evaluations' parameters."""

from __future__ import annotations

from collections.abc import Iterable

from smartdpp.errors import InputError, did_you_mean


def at_least(smallest: int, **values: int | None) -> None:
    """InputError naming the first of these parameters that is below ``smallest``; None means not set."""
    for name, value in values.items():
        if value is not None and value < smallest:
            raise InputError(f"evaluation.{name} is {value}: it must be at least {smallest}")


def names_of(tasks: list[str | int] | None) -> list[str] | None:
    """Task names as text: the command line takes ``evaluation.tasks=[2]`` for a number."""
    return None if tasks is None else [str(task) for task in tasks]


def known(wanted: Iterable[str], names: Iterable[str], where: str) -> None:
    """InputError listing the ``wanted`` tasks that are not among ``names``, with those that are spelled
    alike."""
    names, wanted = sorted(names), list(wanted)
    unknown = [name for name in wanted if name not in names]
    if unknown:
        some = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        hint = did_you_mean(unknown, names, f"it has {len(names)}: {some}", most=3)
        none = (
            "; evaluation=indomain scores rows of its own tasks, evaluation=none nothing"
            if len(unknown) == len(list(wanted)) and where == "the corpus"
            else ""
        )
        raise InputError(f"evaluation.tasks: {where} has no task {', '.join(unknown)}; {hint}{none}")


def some_left(heldout: Iterable[str], names: Iterable[str]) -> None:
    """InputError if holding these out leaves no task of the corpus to train on."""
    if not set(names) - set(heldout):
        raise InputError(
            "the evaluation holds out every task of the corpus: leave at least one to train on, or score "
            "nothing with evaluation=none"
        )
