"""The report in a browser: it renders, sorts and hovers, asks for nothing, runs nothing of the data, and fits
a phone.

Needs Chromium, its driver and the extra ``browser`` (selenium); skipped with a message where they are not.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from synthetic_runs import crossed_study, put

pytestmark = pytest.mark.browser
SWITCHES = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",  # noqa: E501
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip
HOSTILE = (
    "<script>window.ran = true</script><img src='http://example.org/x.png' onerror='window.ran = true'> {}"
)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="selenium is not installed: pip install smartdpp[browser]"
    )
    from selenium.webdriver.chrome.service import Service

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    chromedriver = shutil.which("chromedriver")
    if not chromium or not chromedriver:
        pytest.skip("no Chromium with its driver on this machine: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for switch in [*SWITCHES, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(chromedriver))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from smartdpp.report import main

    root = tmp_path_factory.mktemp("study")
    crossed_study(root, seeds=1, prompts=HOSTILE)
    put(root / "runs" / "broken" / "error.txt", f"InputError: {HOSTILE}\n")
    assert main([str(root / "runs"), "--out", str(root / "out")]) == 0
    return root / "out" / "report.html"


def test_it_renders_asks_for_nothing_and_runs_nothing_of_the_data(driver, page: Path) -> None:
    driver.get_log("performance")
    driver.get(page.as_uri())
    assert driver.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
    assert driver.execute_script("return window.ran") is None
    assert "<script>window.ran = true</script>" in driver.execute_script(
        "return document.querySelector('main').textContent"
    )
    assert driver.execute_script("return document.querySelectorAll('main img, main script').length") == 0
    shown = (
        "return [...document.querySelectorAll('figure svg')].map((f) => [f.getAttribute('aria-label'), "
        "f.clientHeight])"
    )
    figures = driver.execute_script(shown)
    assert len(figures) >= 5
    assert all(alt and height > 100 for alt, height in figures)


def test_a_columns_head_sorts_its_table_both_ways(driver, page: Path) -> None:
    driver.get(page.as_uri())
    click = """
        const head = [...document.querySelectorAll('#results th')].find((th) => th.textContent.includes('loss'));
        head.querySelector('button').click();
        const cells = [...head.closest('table').tBodies[0].rows].map((row) => row.cells[head.cellIndex].textContent);
        return [head.getAttribute('aria-sort'), cells];
    """  # noqa: E501
    way, up = driver.execute_script(click)
    assert way == "ascending"
    assert [float(text.split()[0]) for text in up] == sorted(float(text.split()[0]) for text in up)
    way, down = driver.execute_script(click)
    assert way == "descending"
    assert [float(text.split()[0]) for text in down] == sorted(
        (float(text.split()[0]) for text in up), reverse=True
    )


def test_a_point_says_what_it_is_under_the_mouse(driver, page: Path) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By

    driver.get(page.as_uri())
    point = driver.find_element(By.CSS_SELECTOR, "#task-shares svg .point")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", point)
    ActionChains(driver).move_to_element(point).perform()
    said = driver.find_element(By.ID, "said")
    assert said.is_displayed()
    assert "chain_sum" in said.text
    ActionChains(driver).move_to_element(driver.find_element(By.CSS_SELECTOR, "#task-shares h2")).perform()
    assert not said.is_displayed()


def test_a_phone_needs_no_scrolling_to_the_side(driver, page: Path) -> None:
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True},
    )
    driver.get(page.as_uri())
    driver.execute_script("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    assert driver.execute_script("return document.documentElement.scrollWidth") == 360
    assert (
        driver.execute_script("return parseFloat(getComputedStyle(document.querySelector('td')).fontSize)")
        >= 12
    )
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
