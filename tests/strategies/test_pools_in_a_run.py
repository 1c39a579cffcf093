"""What the YAMLs of the methods on the pool alone name, planned, run and reported."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from smartdpp.report import main as report
from smartdpp.run.cell import Run
from smartdpp.run.pipeline import execute
from smartdpp.strategies.mixture import selection

WAYS = (
    "strategy=top quality=response_tokens strategy.above=2 strategy.per_task=true",
    "strategy=deita quality=response_tokens strategy.threshold=0.8",
    "strategy=k_center strategy.first=id strategy.normalize=false",
    "strategy=kmeans_random strategy.clusters=8 strategy.iterations=5 strategy.restarts=2",
    "strategy=kmq quality=response_tokens strategy.temperature=20",
    "strategy=kmq quality=response_tokens strategy.scale=log strategy.clusters=4",
    "strategy=qdit quality=response_tokens strategy.alpha=0.3 function@strategy.function=graph_cut",
    "strategy=qdit quality=response_tokens strategy.function.neighbors=64",
    "strategy=s2l strategy.per_source=false strategy.clusters=5",
    "strategy=tagcos strategy.clusters=5 strategy.penalty=0.5",
    "strategy=gist quality=response_tokens strategy.diversity=4 strategy.epsilon=0.2",
    "strategy=gist +function@strategy.function=facility_location strategy.epsilon=0.2",
    "strategy=novelselect strategy.neighbors=5",
)


def test_every_option_that_is_named_chooses(
    small_run: Callable[..., Run], capsys: pytest.CaptureFixture
) -> None:
    for way in WAYS:
        execute(small_run(*way.split(), "until=plan"))
        run = small_run(*way.split(), "until=mixture")
        execute(run)
        chosen = selection(run.mixture.path)
        assert len(np.unique(chosen.index)) == 16, way
    assert "to do" in capsys.readouterr().out


def test_superfiltering_runs_to_its_report(small_run: Callable[..., Run]) -> None:
    superfiltering = (
        "strategy=filtered",
        "quality=ifd",
        "quality.ratio=perplexities",
        "strategy.first.below=1.2",
    )
    run = small_run(*superfiltering, "strategy.share=0.3", "evaluation.generate=false")
    execute(run)
    assert report([str(run.path)]) == 0
