"""Figures: what is drawn from which files, that they show all of it, and that a page can hold them."""

from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from synthetic_runs import crossed_study, finished_run, put

from smartdpp.figures import Drawing, of_run, of_study, run_figures
from smartdpp.figures.dots import against
from smartdpp.figures.scatter import diversity_performance
from smartdpp.figures.shares import leaderboard
from smartdpp.figures.style import looks, style
from smartdpp.run.folder import artifacts
from smartdpp.study.results import SHARES, Results, collect

pytestmark = pytest.mark.filterwarnings("error")
SVG = "{http://www.w3.org/2000/svg}"


def results(
    strategies: str, budgets: tuple[float, ...], seeds: int, shares: pd.DataFrame | None = None
) -> Results:
    cells = [(s, b, seed) for s in strategies.split() for b in budgets for seed in range(seeds)]
    rows = [
        {"run": f"{s}-{b}-{seed}", "strategy": s, "label": s, "budget": b, "seed": seed, "n": 40}
        | {"loss": 2 + i / 100, "loss_base": 4.0, "ldd": i / 50, "ldd_n": 30.0}
        for i, (s, b, seed) in enumerate(cells)
    ]
    return Results(
        pd.DataFrame(rows), [], pd.DataFrame(columns=SHARES) if shares is None else shares, {}, None, [], []
    )


def drawn(found: Results) -> dict[str, Drawing]:
    return {drawing.name: drawing for drawing in of_study(found)}


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text)).replace("\u00a0", " ")


def test_a_run_gets_its_shares_its_tasks_and_its_curve(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    paths = run_figures(run)
    assert [path.relative_to(run).as_posix() for path in paths] == [
        f"figures/{name}.png" for name in ("task_shares", "heldout", "diversity")
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    shares, heldout, diversity = of_run(run)
    # per cent of 40 examples
    assert [round(bar.get_width(), 6) for bar in shares.figure.axes[0].patches] == [75, 25, 0]
    before, after, *_ = heldout.figure.axes[0].lines
    assert list(before.get_xdata()) == [4.5, 3.5, 4.0]  # two tasks, then their mean
    assert list(after.get_xdata()) == [2.5, 1.5, 2.0]
    assert list(diversity.figure.axes[0].lines[1].get_ydata()) == [0.1, 0.2, 0.3]


def test_task_names_are_shown_as_they_are(tmp_path: Path) -> None:
    name = r"cost $\frac{1$ and {{ 7*7 }}"
    assert name in texts(of_run(finished_run(tmp_path, selected={name: 3, "maze": 2}))[0].figure)


def test_tasks_that_do_not_fit_are_counted(tmp_path: Path) -> None:
    shares = of_run(finished_run(tmp_path, selected={f"task_{i:02}": 2 for i in range(25)}))[0]
    assert "the 20 largest of 25 tasks; the other 5 hold 20%" in texts(shares.figure)


def test_the_base_model_and_an_empty_store_have_less_to_draw(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "a", selected={"maze": 0}, curve=())
    assert [drawing.name for drawing in of_run(run)] == ["heldout"]
    bare = tmp_path / "b" / "runs" / "bare"
    put(bare / "result.json", {})
    assert of_run(bare) == []


def test_artifacts_are_found_from_any_folder_and_after_a_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished_run(tmp_path / "old", "a")
    (tmp_path / "old").rename(tmp_path / "new")
    monkeypatch.chdir(tmp_path)
    assert all(path.is_dir() for path in artifacts(Path("new/runs/a")).values())


def test_a_study_with_one_budget_gets_dots_and_with_several_gets_curves() -> None:
    several = results("smart random", (40, 80), 3)
    found = drawn(several)
    assert list(drawn(results("smart random", (40,), 3))) == ["strategies", "diversity_performance"]
    assert list(found) == ["budget", "diversity_performance"]
    scatter = found["diversity_performance"].figure
    assert [axes.get_title("left") for axes in scatter.axes] == [
        "budget 40 examples, 6 runs",
        "budget 80 examples, 6 runs",
    ]
    seen = sum(
        len(line.get_xdata()) for axes in scatter.axes for line in axes.lines if line.get_alpha() is not None
    )
    assert seen == len(several.table)  # one point a run
    assert "smart (n = 3)" in texts(found["budget"].figure)


def test_axes_are_found_from_the_configurations(tmp_path: Path) -> None:
    crossed_study(tmp_path, seeds=1)
    found = collect(sorted((tmp_path / "runs").iterdir()))
    figures = drawn(found)
    assert list(figures) == [
        "budget",
        "along_num_tasks",
        "map_instances_tasks",
        "diversity_performance",
        "task_shares",
    ]
    curve = figures["along_num_tasks"].figure
    assert {"smart, budget 60 (n = 1)", "random, budget 60 (n = 1)", "full (n = 1)"} <= set(
        texts(curve).splitlines()
    )
    lines = [
        line for line in curve.axes[0].lines if len(line.get_xdata()) == 4 and line.get_linestyle() == "-"
    ]
    assert len(lines) == 3  # a budget each; pairs of functions with one number of tasks make no curve
    heat = figures["map_instances_tasks"].figure
    shown = [axes for axes in heat.axes if axes.get_visible()]
    assert [axes.get_title("left") for axes in shown] == ["budget 60", "budget 120", "budget 240"]
    assert all(len(axes.patches) == 9 for axes in shown)


def test_a_word_among_swept_numbers_is_a_level_line(tmp_path: Path) -> None:
    for i, num_tasks in enumerate((4, 8, "auto")):
        finished_run(
            tmp_path, f"m{num_tasks}", loss=2 + i / 10, config={"strategy": {"num_tasks": num_tasks}}
        )
    curve = drawn(collect(sorted((tmp_path / "runs").iterdir())))["along_num_tasks"].figure
    assert "smart, num_tasks=auto (n = 1)" in texts(curve).splitlines()
    assert 2.2 in [line.get_ydata()[0] for line in curve.axes[0].lines if len(set(line.get_ydata())) == 1]


def test_one_seed_is_drawn_without_an_interval() -> None:
    dots = drawn(results("smart random", (40,), 1))["strategies"].figure
    assert "smart (n = 1)" in texts(dots)
    assert not dots.axes[0].collections


def test_a_full_pool_is_a_level_line_among_budgets() -> None:
    found = results("smart", (40, 80), 2)
    full = results("full", (np.nan,), 1).table.assign(loss=2.02)
    found = Results(pd.concat([found.table, full], ignore_index=True), [], found.shares, {}, None, [], [])
    lines = drawn(found)["budget"].figure.axes[0].lines
    assert 2.02 in [line.get_ydata()[0] for line in lines if len(set(line.get_ydata())) == 1]


def test_shares_are_means_over_seeds_beside_the_pool() -> None:
    rows = [
        ("smart", "maze", 0.5),
        ("smart", "maze", 0.7),
        ("smart", "dice", 0.5),
        ("smart", "dice", 0.3),
        ("equal", "maze", 0.5),
    ]
    rows += [("equal", "dice", 0.5)]
    tasks = pd.DataFrame(
        [
            {"run": "r", "label": label, "budget": 40.0, "task": task, "pool": 50, "selected": 1, "share": s}
            for label, task, s in rows
        ]
    )
    shares = drawn(results("smart equal", (40,), 2, tasks))["task_shares"]
    assert "60.0" in texts(shares.figure)
    assert "pool" in texts(shares.figure)
    assert "maze: 60.0 % of smart\n+10.0 points against the pool" in shares.hover.values()
    names = [label for label in shares.figure.axes[0].get_xticklabels() if label.get_visible()]
    # long ones fit
    assert {(label.get_text(), label.get_rotation()) for label in names} == {
        ("pool", 30),
        ("smart", 30),
        ("equal", 30),
    }


def test_each_worlds_own_pool_is_what_its_mixtures_stand_beside() -> None:
    """Another task is the largest in another world: proportional shares are the pool's in each."""
    tasks = pd.DataFrame(
        [
            {"run": f"r{seed}", "label": label, "budget": 40.0, "task": task, "pool": pool, "selected": 1}
            | {"share": pool / 100 if label == "proportional" else 0.5}
            for label in ("proportional", "equal")
            for seed, pools in enumerate(((80, 20), (20, 80), (70, 30)))
            for task, pool in zip(("maze", "dice"), pools, strict=True)
        ]
    )
    shares = drawn(results("proportional equal", (40,), 3, tasks))["task_shares"]
    assert "maze: 56.7 % of proportional\n+0.0 points against the pool" in shares.hover.values()
    assert "maze: 50.0 % of equal\n-6.7 points against the pool" in shares.hover.values()


def test_every_strategy_of_many_looks_different() -> None:
    seen = [(look["color"], look["marker"]) for look in looks(map(str, range(42))).values()]
    assert len(set(seen)) == 42


def test_an_svg_stands_alone_in_a_page() -> None:
    table = results("smart random", (40,), 2).table.assign(run=["s0", "s1", "r0", "r1"])
    name = "a <b> & ${x}"
    shares = pd.DataFrame(
        [
            {"run": "s1", "task": task, "selected": n, "share": n / 10}
            for task, n in (("maze", 3), (name, 7), ("gcd", 0))
        ]
    )
    with style():
        scatter = diversity_performance(table, "loss", looks(["smart", "random"]), shares)
    root = ElementTree.fromstring(scatter.svg())
    titles = [element.text for element in root.iter(f"{SVG}title")]
    assert sorted(title.splitlines()[0] for title in titles) == ["r0", "r1", "s0", "s1"]
    (about,) = [title for title in titles if title.startswith("s1")]
    assert about.splitlines()[1:] == [
        "smart, seed 1",
        "LDD 0.020, loss (nats/token) 2.010",
        f"70% {name}",
        "30% maze",
    ]
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert ids
    assert len(set(ids)) == len(ids)
    assert all(i.startswith("diversity_performance-") for i in ids)
    assert not list(root.iter(f"{SVG}style"))
    assert scatter.svg() == scatter.svg()
    assert root.get("aria-label") == scatter.alt


def test_nothing_finished_is_nothing_drawn() -> None:
    assert of_study(Results(pd.DataFrame(), [], pd.DataFrame(), {}, None, [], [])) == []


@pytest.mark.parametrize(
    "baseline",
    ["random", "smart, instances=facility_location, tasks=graph_cut, normalize_gains=false, temperature=0.1"],
)
def test_what_is_written_below_a_comparison_fits(baseline: str) -> None:
    row = {
        "panel": "",
        "label": "smart",
        "mean": 0.1,
        "half": 0.2,
        "p_holm": 0.4,
        "seeds": 3,
        "documents": 80,
    }
    with style():
        figure = against(pd.DataFrame([row]), baseline, "loss", looks(["smart"])).figure
        figure.draw_without_rendering()
        (caption,) = [text for text in figure.findobj(Text) if text.get_text().startswith("difference in")]
        assert baseline in caption.get_text().replace("\n", " ")
        box = caption.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.x1


@pytest.mark.parametrize("settings", [2, 6])
def test_a_leaderboards_titles_and_ticks_do_not_run_into_each_other(settings: int) -> None:
    names = [f"smart, budget {40 + i}" for i in range(settings)]
    rows = [
        {"way": way, "setting": name, "share": share, "share_low": share - 1, "share_high": share + 0.5}
        | {"p_holm": 0.5}
        for way, share in (("targeted_gradient", 0.9), ("dpp", -0.4))
        for name in names
    ]
    with style():
        figure = leaderboard(
            pd.DataFrame(rows), dict.fromkeys(names, "8 worlds\noracle +0.74 nats\nover proportional")
        ).figure
    figure.draw_without_rendering()
    for texts in (
        [ax.title if ax.get_title() else ax._left_title for ax in figure.axes],
        [tick.label1 for ax in figure.axes for tick in ax.xaxis.get_major_ticks()],
    ):
        boxes = [text.get_window_extent() for text in texts if text.get_text()]
        assert len(boxes) >= settings
        assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
