"""Choose instruction-tuning data, finetune on it and see what it was worth.

As a library: ``smartdpp.select(data, budget=1000)`` chooses, ``smartdpp.diversity(data)``, or
``smartdpp.measure(data)``, says how diverse it is, ``smartdpp.compare(a, b)`` lays two side by side. They are
imported when they are asked for.
"""

from importlib import import_module
from typing import Any

from smartdpp.store import place

LIBRARY = {
    "select": "smartdpp.library.select",
    "measure": "smartdpp.library.compare",
    "compare": "smartdpp.library.compare",
}

place.settle()


def __getattr__(name: str) -> Any:
    if name == "diversity":  # the package, which is called as measure is
        return import_module("smartdpp.diversity")
    if name not in LIBRARY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(LIBRARY[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *LIBRARY, "diversity"]
