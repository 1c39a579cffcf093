"""Figures: what is drawn from which files, and that they show all of it."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from synthetic_runs import finished_run, put

from smartdpp import figures
from smartdpp.figures import artifacts, run_figures, study_figures, t_interval

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """The figures themselves, by file name, while their files are still written."""
    kept: dict[str, Figure] = {}
    save = figures._save

    def keep(path: Path, draw, *args) -> Path:
        def and_keep(*args) -> Figure:
            kept[path.name] = draw(*args)
            return kept[path.name]

        return save(path, and_keep, *args)

    monkeypatch.setattr(figures, "_save", keep)
    return kept


def results(strategies: str, budgets: tuple[float, ...], seeds: int) -> pd.DataFrame:
    cells = [(s, b, seed) for s in strategies.split() for b in budgets for seed in range(seeds)]
    rows = [
        {"strategy": s, "budget": b, "seed": seed, "loss": 2 + i / 100, "loss_base": 4.0, "ldd": i / 50, "ldd_n": 30.0}
        for i, (s, b, seed) in enumerate(cells)
    ]
    return pd.DataFrame(rows)


def texts(figure: Figure) -> str:
    from matplotlib.text import Text

    return "\n".join(text.get_text() for text in figure.findobj(Text))


def test_a_run_gets_its_shares_its_tasks_and_its_curve(tmp_path: Path, drawn: dict[str, Figure]) -> None:
    run = finished_run(tmp_path)
    paths = run_figures(run)
    assert [path.relative_to(run).as_posix() for path in paths] == [
        f"figures/{name}.png" for name in ("task_shares", "heldout", "diversity")
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    bars = drawn["task_shares.png"].axes[0].patches
    assert [round(bar.get_width(), 6) for bar in bars] == [75, 25, 0]  # per cent of 40 examples
    before, after = drawn["heldout.png"].axes[0].lines
    assert list(before.get_xdata()) == [4.5, 3.5, 4.0]  # two tasks, then their mean
    assert list(after.get_xdata()) == [2.5, 1.5, 2.0]
    _, curve, _ = drawn["diversity.png"].axes[0].lines
    assert list(curve.get_ydata()) == [0.1, 0.2, 0.3]


def test_task_names_are_shown_as_they_are(tmp_path: Path, drawn: dict[str, Figure]) -> None:
    name = r"cost $\frac{1$ and {{ 7*7 }}"
    run_figures(finished_run(tmp_path, selected={name: 3, "maze": 2}))
    assert name in texts(drawn["task_shares.png"])


def test_tasks_that_do_not_fit_are_counted(tmp_path: Path, drawn: dict[str, Figure]) -> None:
    run_figures(finished_run(tmp_path, selected={f"task_{i:02}": 2 for i in range(25)}))
    assert "the 20 largest of 25 tasks; the other 5 hold 20%" in texts(drawn["task_shares.png"])


def test_the_base_model_and_an_empty_store_have_less_to_draw(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "a", selected={"maze": 0}, curve=())
    assert [path.name for path in run_figures(run)] == ["heldout.png"]
    bare = tmp_path / "b" / "runs" / "bare"
    put(bare / "result.json", {})
    assert run_figures(bare) == []


def test_artifacts_are_found_from_any_folder_and_after_a_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished_run(tmp_path / "old", "a")
    (tmp_path / "old").rename(tmp_path / "new")
    monkeypatch.chdir(tmp_path)
    assert all(path.is_dir() for path in artifacts(Path("new/runs/a")).values())


def test_a_study_with_one_budget_gets_dots_and_with_several_gets_curves(tmp_path: Path, drawn: dict[str, Figure]) -> None:
    one, several = results("smart random", (40,), 3), results("smart random", (40, 80), 3)
    assert [path.name for path in study_figures(one, tmp_path)] == ["diversity_performance.png", "strategies.png"]
    assert [path.name for path in study_figures(several, tmp_path)] == ["diversity_performance.png", "budget.png"]
    scatter = drawn["diversity_performance.png"]
    assert [axes.get_title("left") for axes in scatter.axes] == ["budget 40 examples, 6 runs", "budget 80 examples, 6 runs"]
    seen = sum(len(line.get_xdata()) for axes in scatter.axes for line in axes.lines if line.get_alpha() is not None)
    assert seen == len(several)  # one point a run
    assert "smart (n = 3)" in texts(drawn["budget.png"])


def test_one_seed_is_drawn_without_an_interval(tmp_path: Path, drawn: dict[str, Figure]) -> None:
    study_figures(results("smart random", (40,), 1), tmp_path)
    assert "smart (n = 1)" in texts(drawn["strategies.png"])
    assert not drawn["strategies.png"].axes[0].collections


def test_a_full_pool_is_a_level_line_among_budgets(tmp_path: Path, drawn: dict[str, Figure]) -> None:
    table = pd.concat([results("smart", (40, 80), 2), results("full", (np.nan,), 1).assign(loss=2.02)])
    study_figures(table, tmp_path)
    assert 2.02 in [line.get_ydata()[0] for line in drawn["budget.png"].axes[0].lines if line.get_linestyle() == ":"]


def test_shares_are_means_over_seeds_beside_the_pool(tmp_path: Path, drawn: dict[str, Figure]) -> None:
    rows = [
        ("smart", "maze", 0.5),
        ("smart", "maze", 0.7),
        ("smart", "dice", 0.5),
        ("smart", "dice", 0.3),
        ("equal", "maze", 0.5),
        ("equal", "dice", 0.5),
    ]
    tasks = pd.DataFrame([{"label": label, "budget": 40.0, "task": task, "pool": 50, "share": share} for label, task, share in rows])
    study_figures(results("smart equal", (40,), 2), tmp_path, tasks)
    assert "60.0" in texts(drawn["task_shares.png"])
    assert "pool" in texts(drawn["task_shares.png"])


def test_every_strategy_of_many_looks_different() -> None:
    looks = [(look["color"], look["marker"]) for look in figures._looks()]
    assert len(set(looks)) == len(looks) == 42


def test_t_interval_is_scipys() -> None:
    from scipy.stats import t

    values = [2.0, 2.5, 2.1]
    mean, half = t_interval(values)
    assert (mean - half, mean + half) == pytest.approx(t.interval(0.95, 2, np.mean(values), np.std(values, ddof=1) / np.sqrt(3)))
    assert np.isnan(t_interval([2.0])[1])


def test_a_browser_shows_a_runs_mixture_at_its_point(tmp_path: Path) -> None:
    table = results("smart random", (40,), 2).assign(run=["s0", "s1", "r0", "r1"])
    name = "a <b> & ${x}"
    shares = pd.DataFrame([{"run": "s1", "task": task, "selected": n, "share": n / 10} for task, n in (("maze", 3), (name, 7), ("gcd", 0))])
    path = figures.hover_scatter(table, tmp_path, shares)
    titles = [element.text for element in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}title")]
    assert sorted(title.splitlines()[0] for title in titles) == ["r0", "r1", "s0", "s1"]
    (about,) = [title for title in titles if title.startswith("s1")]
    assert about.splitlines()[1:] == ["smart, seed 1", "LDD 0.020, loss (nats/token) 2.010", f"70% {name}", "30% maze"]
    before = path.read_bytes()
    assert figures.hover_scatter(table, tmp_path, shares).read_bytes() == before
    assert figures.hover_scatter(table.drop(columns="ldd"), tmp_path) is None


def test_nothing_finished_is_nothing_drawn(tmp_path: Path) -> None:
    assert study_figures(pd.DataFrame(), tmp_path) == []
