"""Chromium for tests that open the page; they skip with the reason where it or Playwright is missing."""

import time
from pathlib import Path

import pytest

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]

MARKS = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.is_file(), reason=f"no browser at {CHROMIUM} (Debian's package chromium)"),
]


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (the extra 'test')")
    with playwright.sync_playwright() as engine:
        running = engine.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture
def tab(browser):
    """A page of the browser that fails the test for anything the console complains about."""
    opened = browser.new_page(viewport={"width": 1280, "height": 720}, color_scheme="light")
    complaints = []
    opened.on(
        "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
    )
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    yield opened
    opened.close()
    assert not [text for text in complaints if "GPU stall" not in text]  # software drawing is slow, and says so


def open_page(tab, address):
    tab.goto(address)
    tab.wait_for_selector("body[data-ready=true]")


def wait_ids(tab, ids):
    """Wait until the list shows these episodes from top to bottom; rows are made anew when it changes."""
    rows = "[...document.querySelectorAll('.row')]"
    order = "(a, b) => a.getBoundingClientRect().y - b.getBoundingClientRect().y"
    wait_until(tab, f"{rows}.sort({order}).map((row) => row.dataset.id).join() === {','.join(ids)!r}")


def heading(tab, agent=0):
    return float(tab.locator(f".pane[data-agent='{agent}']").get_attribute("data-heading"))


def wait_until(tab, condition, timeout_s=15.0):
    """Wait for a JavaScript condition; Playwright's own waiting evaluates strings, which the page's policy forbids."""
    end = time.monotonic() + timeout_s
    while not tab.evaluate(condition):
        assert time.monotonic() < end, f"never came true: {condition}"
        tab.wait_for_timeout(30)


def wait_step(tab, label):
    wait_until(tab, f"document.getElementById('step-label').textContent === {label!r}")
