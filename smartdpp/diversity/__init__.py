"""How diverse a set of examples is: the log determinant distance, what it hangs on, and the field's other
measures beside it.

The package itself may be called: ``smartdpp.diversity(data)`` is ``smartdpp.measure(data)``. As a
library: ``log_det_distance(X)`` and any ``measure(X) -> float`` below, X (n, d) one row an example. As a
component of a run: conf/diversity. As a command that compares datasets without training: ``python -m
smartdpp.diversity``.
"""

import sys
from types import ModuleType
from typing import Any

from smartdpp.diversity.components import AllMeasures, LogDetDistance, NoMeasure
from smartdpp.diversity.coverage import coverage, targets_covered
from smartdpp.diversity.distances import knn_distance, mean_pairwise_distance, radius
from smartdpp.diversity.entropy import cluster_entropy, task_entropy
from smartdpp.diversity.log_det import LogDetResult, log_det_distance
from smartdpp.diversity.novelsum import novelsum
from smartdpp.diversity.references import shuffled_columns, uniform_sphere
from smartdpp.diversity.sensitivity import sensitivity
from smartdpp.diversity.vendi import vendi_score

__all__ = [
    "AllMeasures",
    "LogDetDistance",
    "LogDetResult",
    "NoMeasure",
    "cluster_entropy",
    "coverage",
    "knn_distance",
    "log_det_distance",
    "mean_pairwise_distance",
    "novelsum",
    "radius",
    "sensitivity",
    "shuffled_columns",
    "targets_covered",
    "task_entropy",
    "uniform_sphere",
    "vendi_score",
]


class _Called(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, float | None]:
        """As ``smartdpp.measure``."""
        return sys.modules["smartdpp"].measure(*args, **kwargs)


sys.modules[__name__].__class__ = _Called
