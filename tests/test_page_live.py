"""The page in a real browser walks live, against a stub server."""

import pytest

from tests.browser import MARKS, open_page, wait_step, wait_until
from tests.page_server import Stub, serve_stub

pytestmark = MARKS


@pytest.fixture
def served():
    with serve_stub() as address:
        yield address


def test_live_walk_step_by_step_forced_back_and_to_the_end(tab, served):
    open_page(tab, served)
    tab.click(".live-result[data-id='7_0']")
    wait_step(tab, "1 / 1")  # the first decision is asked for at once
    tab.wait_for_selector(".choice.is-chosen")
    tab.click("#live-step")
    wait_step(tab, "2 / 2")
    tab.click("#live-step")
    wait_step(tab, "3 / 3")
    tab.click("#live-back")
    wait_step(tab, "2 / 2")
    tab.keyboard.press("c")
    tab.locator(".pane .mark[data-candidate='2']").click()  # where the agent came from
    wait_step(tab, "3 / 3")
    assert Stub.asked[-1]["actions"] == [0, 2]
    assert not Stub.asked[-1]["finish"]
    tab.keyboard.press("ArrowLeft")
    wait_until(tab, "document.getElementById('decision-note').textContent === 'forced'")
    tab.click("#live-walk")
    wait_until(tab, "Number(document.getElementById('scrubber').max) >= 3")
    assert Stub.asked[-1]["finish"]


def test_live_changed_instruction_changes_the_walk_and_compares(tab, served):
    open_page(tab, served)
    tab.select_option("#live-scan", "villa")
    tab.fill("#live-instruction", "go right")
    tab.click("#live-walk")
    wait_step(tab, "4 / 4")
    tab.click("#live-compare")
    tab.fill("#live-instruction", "stop here")
    tab.click("#live-walk")
    wait_until(tab, "document.querySelectorAll('.map-walk.agent-0 .map-stop').length === 1")
    assert tab.locator(".map-walk.agent-1 .map-stop").count() == 4
    assert tab.locator(".pane").count() == 2
    assert tab.locator("#live-kept").inner_text().startswith("B")
    assert Stub.asked[-1]["instruction"] == "stop here"


def test_a_live_walk_is_in_the_address(tab, served):
    open_page(tab, served)
    tab.select_option("#live-scan", "villa")
    tab.fill("#live-instruction", "go right")
    tab.click("#live-walk")
    wait_step(tab, "4 / 4")
    link = tab.url
    tab.goto("about:blank")
    open_page(tab, link)
    assert tab.input_value("#live-instruction") == "go right"
    tab.wait_for_selector(".choice.is-chosen")  # its first decision
    tab.goto("about:blank")
    open_page(tab, f"{served}#scan=constructor&start=0")
    assert "The link names the start constructor 0, which is not in this page" in tab.locator("#message").inner_text()


def test_live_errors_are_sentences(tab, served):
    open_page(tab, served)
    assert tab.locator("#instruction").inner_text() == "Type an instruction on the left, or take an episode."
    assert tab.locator("#decision-note").inner_text() == ""  # nothing was cut off
    tab.click("#live-step")
    assert tab.locator("#message").inner_text() == "Type an instruction first."
    assert not Stub.asked


def test_a_refusal_of_the_server_is_shown_as_its_sentence(browser, served):
    tab = browser.new_page()  # the console names the status 400, which is not a fault of the page
    open_page(tab, served)
    tab.fill("#live-instruction", "go nowhere")
    tab.click("#live-step")
    tab.wait_for_selector("#toast:not([hidden])")
    assert tab.locator("#message").inner_text() == "instruction must name a place, got 'nowhere'"
    tab.close()
