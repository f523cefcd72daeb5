"""The page in a real browser walks live, against a stub server; once, against an agent's own."""

import threading
import time

import pytest
import torch
import uvicorn

from tests.browser import MARKS, open_page, wait_step, wait_until
from tests.page_server import Stub, serve_stub
from tests.toy_world import point_to
from vln_clip.setting import load_follower
from vln_clip.viewer import server
from vln_clip.viewer.document import ShownAgent
from vln_clip.viewer.page import page_html

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


@pytest.fixture
def agent_served(seeing, monkeypatch):
    """The address of the live server of a trained toy agent."""
    point_to(seeing.folder, monkeypatch)
    loaded = load_follower(seeing.runs / "toy", None, ["val_unseen"], torch.device("cpu"))
    listening = server._listen(0)
    port = listening.getsockname()[1]
    app = server.make_app(server.Live(loaded, "val_unseen", ShownAgent("toy", "a toy")), page_html, port)
    running = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
    thread.start()
    while not running.started and thread.is_alive():
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}/"
    running.should_exit = True
    thread.join()


def test_the_typed_instruction_changes_what_an_agent_decides(tab, agent_served):
    open_page(tab, agent_served)
    tab.select_option("#live-scan", "beta")
    told = {}
    for instruction in ("Walk to the kitchen.", "Find the garage, then wait."):
        tab.fill("#live-instruction", instruction)
        tab.click("#live-walk")
        last_word = instruction.rstrip(".").split()[-1]
        tab.wait_for_selector(".choice.is-chosen")
        wait_until(tab, f"document.getElementById('instruction').textContent.includes({last_word!r})")
        told[instruction] = tab.evaluate(
            "document.getElementById('decision').textContent + document.getElementById('chart').textContent"
        )
    assert len(set(told.values())) == 2
