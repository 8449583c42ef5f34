"""The report in a real browser: every run is drawn, in light and dark, narrow and wide, without an error."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from picojoule.report import read_records, write_page

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver"),
]
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
MADE_UP = Path(__file__).parent.parent / "report" / "made_up.jsonl"
POINTS = "return document.querySelectorAll('#pareto .points path.point').length"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_page(read_records(MADE_UP), path)
    return path.as_uri()


def show(browser: Any, page: str, width: int, scheme: str) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get(page)
    wait_for(lambda: browser.execute_script(POINTS) > 0)


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the page did not get there in time"
        time.sleep(0.05)


@pytest.mark.parametrize("width", [375, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_draws_every_run_and_fits(browser: Any, page: str, width: int, scheme: str) -> None:
    show(browser, page, width, scheme)
    assert browser.execute_script(POINTS) == len(read_records(MADE_UP))
    rows = browser.execute_script("return document.querySelectorAll('#table tbody tr').length")
    assert rows == 6
    overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.execute_script(overflow) <= 0
    for figure in ("layers", "silent"):
        assert browser.execute_script(f"return document.querySelectorAll('#{figure} .bars .point').length") > 0
    assert browser.get_log("browser") == []


def test_records_of_two_datasets_with_hostile_names(browser: Any, tmp_path: Path) -> None:
    records = read_records(MADE_UP)
    others = [{**run, "dataset": "digits", "network": "mlp"} for run in records[:12]]
    names = {
        "method": "<img src=x onerror=alert(1)>",
        "dataset": "<b>",
        "commit": "<script>alert(1)</script>",
    }
    hostile = [{**run, **names} for run in records[-1:]]
    write_page([*records, *others, *hostile], tmp_path / "report.html")
    show(browser, (tmp_path / "report.html").as_uri(), 375, "light")
    assert browser.execute_script(POINTS) == 31
    assert browser.execute_script("return document.images.length") == 0
    assert browser.get_log("browser") == []


def test_nothing_is_loaded_from_a_network(browser: Any, page: str) -> None:
    browser.get_log("performance")
    show(browser, page, 1400, "light")
    requests = [entry["message"] for entry in browser.get_log("performance")]
    requests = [message for message in requests if '"Network.requestWillBeSent"' in message]
    assert requests and not any('"url":"http' in message for message in requests)


def test_plots_follow_the_colour_scheme(browser: Any, page: str) -> None:
    show(browser, page, 1400, "light")
    color = "return getComputedStyle(document.querySelector('#pareto .xtick text')).fill"
    light = browser.execute_script(color)
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    wait_for(lambda: browser.execute_script(color) != light)
    body = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (light, browser.execute_script(color), body) == (
        "rgb(27, 31, 36)",
        "rgb(232, 235, 239)",
        "rgb(20, 23, 27)",
    )


def test_share_button_makes_every_bar_full(browser: Any, page: str) -> None:
    show(browser, page, 1400, "light")
    browser.find_element("id", "shares").click()
    reach = "return document.getElementById('layers')._fullLayout.xaxis.range[1]"
    wait_for(lambda: 100 <= browser.execute_script(reach) < 110)
    assert browser.find_element("id", "shares").get_attribute("aria-pressed") == "true"
    browser.find_element("id", "energies").click()
    wait_for(lambda: browser.execute_script(reach) > 1000)
    assert browser.get_log("browser") == []
