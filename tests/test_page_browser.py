"""The page in a real browser: it plays, turns, filters and links."""

import re

import pytest

from tests.browser import MARKS, heading, open_page, wait_ids, wait_step, wait_until
from tests.page_document import SCRIPT, page_document
from vln_clip.viewer.page import write_page

pytestmark = MARKS


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_page(*page_document(), path)
    return path.as_uri()


def test_list_shows_failures_first_and_text_as_text(tab, address):
    open_page(tab, address)
    wait_ids(tab, ["2_0", "5_0", "1_0", "4_0", "3_0"])  # 0.31 twice, 0.9 twice, unscored
    assert tab.locator(".row[data-id='2_0'] .row-text").text_content() == SCRIPT
    assert tab.title() == "Toy walks"
    assert tab.locator(".row[data-id='4_0'] .row-text").get_attribute("lang") == "hi-IN"


def test_filters_and_orders(tab, address):
    open_page(tab, address)
    tab.select_option("#scan", "villa")
    wait_until(tab, "document.querySelectorAll('.row').length === 3")
    tab.select_option("#outcome", "failed")
    wait_ids(tab, ["5_0"])
    tab.select_option("#scan", "")
    tab.select_option("#outcome", "onlyB")
    wait_ids(tab, ["2_0"])
    tab.select_option("#outcome", "all")
    tab.select_option("#order", "id")
    wait_ids(tab, ["1_0", "2_0", "3_0", "4_0", "5_0"])
    tab.fill("#search", "STAIRS go")
    wait_ids(tab, ["1_0"])
    tab.fill("#search", "nothing like this")
    tab.wait_for_selector(".list-empty")
    tab.fill("#search", "")
    tab.select_option("#language", "hi-IN")
    wait_ids(tab, ["4_0"])


def test_episode_plays_to_its_end_and_the_map_follows_to_the_other_floor(tab, address):
    open_page(tab, f"{address}#episode=1_0")
    assert tab.locator(".map-drawing").get_attribute("data-floor") == "0"
    tab.select_option("#speed", "4")
    tab.click("#play")
    wait_step(tab, "4 / 4")
    wait_until(tab, "document.getElementById('play').textContent === 'Play'")
    wait_until(tab, "document.querySelector('.map-drawing').dataset.floor === '1'")
    assert "step=4" in tab.url
    assert tab.locator("#decision .choice.is-chosen").inner_text().startswith("●\nstop")


def test_dragging_turns_the_view_and_the_wheel_zooms(tab, address):
    open_page(tab, f"{address}#episode=1_0")
    tab.wait_for_selector(".pane[data-picture='panorama-1']")
    tab.wait_for_timeout(300)
    pane = tab.locator(".pane").first
    before, picture = heading(tab), pane.screenshot()
    box = pane.bounding_box()
    tab.mouse.move(box["x"] + 150, box["y"] + 120)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 350, box["y"] + 140, steps=4)
    tab.mouse.up()
    tab.wait_for_timeout(200)
    assert heading(tab) < before - 0.3  # dragged to the right: what is on the left comes into view
    turned = pane.screenshot()
    assert turned != picture
    tab.mouse.wheel(0, 400)
    tab.wait_for_timeout(200)
    assert pane.screenshot() != turned


def test_moves_out_of_sight_are_at_the_edges_and_a_click_turns_there(tab, address):
    open_page(tab, f"{address}#episode=2_0")  # looks north at place 2; its moves lie west (1) and north (5)
    tab.wait_for_selector(".pane[data-picture='panorama-2']")
    tab.locator(".mark-edge").click()
    wait_until(tab, "Math.abs(Number(document.querySelector('.pane').dataset.heading) + Math.PI / 2) < 0.01")
    assert tab.locator(".mark[data-candidate]").count() == 1  # now the west is in sight and the north is not


def test_heat_out_of_sight_is_pointed_at(tab, address):
    open_page(tab, address)
    tab.select_option("#overlay", "views")
    tab.wait_for_selector(".ribbon-heat")
    tab.evaluate("panes[0].turnTo(wrap(panes[0].heat.peak.heading + Math.PI), 0, 0)")
    tab.locator(".mark-heat").click()
    wait_until(tab, "Math.abs(wrap(panes[0].camera.heading - panes[0].heat.peak.heading)) < 0.01")
    wait_until(tab, "document.querySelectorAll('.mark-heat').length === 0")


def test_the_map_stays_fitted_when_its_room_changes(tab, address):
    open_page(tab, f"{address}#episode=2_0")
    tab.set_viewport_size({"width": 1280, "height": 560})
    inside = """(() => { const box = map.drawing.getBoundingClientRect();
      return state.episode.path.every((place) => { const [x, y] = map.at(place);
        return x > 0 && y > 0 && x < box.width && y < box.height; }); })()"""
    wait_until(tab, inside)
    tab.set_viewport_size({"width": 1280, "height": 1000})
    wait_until(tab, f"{inside} && map.view.scale > 20")


def test_touch_turns_the_view(browser, address):
    context = browser.new_context(viewport={"width": 420, "height": 900}, has_touch=True)
    tab = context.new_page()
    open_page(tab, f"{address}#episode=1_0")
    box = tab.locator(".pane").first.bounding_box()
    before = heading(tab)
    session = context.new_cdp_session(tab)
    tab.evaluate(f"window.scrollTo(0, {box['y'] - 100})")
    y = tab.locator(".pane").first.bounding_box()["y"] + 100
    for kind, x in [("touchStart", 100), ("touchMove", 160), ("touchMove", 240), ("touchEnd", None)]:
        points = [] if x is None else [{"x": x, "y": y}]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    tab.wait_for_timeout(300)
    assert heading(tab) < before - 0.2
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")  # nothing sticks out on a narrow screen
    context.close()


def test_link_is_honored_and_an_unknown_episode_is_a_sentence(tab, address):
    open_page(tab, f"{address}#episode=1_0&step=3&agent=short+run")
    assert tab.locator("#step-label").text_content() == "3 / 4"
    assert tab.locator("#agent-tabs .is-on").inner_text().endswith("short run")
    tab.evaluate("location.hash = '#episode=4_0&step=2'")
    wait_step(tab, "2 / 3")
    tab.evaluate("location.hash = '#episode=99_9'")
    tab.wait_for_selector("#toast:not([hidden])")
    assert (
        "“99_9”, which is not among the 5 episodes of this page (toy val_unseen)"
        in tab.locator("#message").inner_text()
    )


def test_compass_stands_in_without_pictures_and_by_choice(tab, address):
    open_page(tab, f"{address}#episode=4_0")
    assert tab.locator(".pane.is-compass .ring-cell").count() == 36
    assert tab.locator("#view-mode").is_hidden()
    open_page(tab, f"{address}#episode=1_0&again")
    tab.reload()
    assert tab.locator(".pane.is-compass").count() == 0
    tab.keyboard.press("c")
    tab.wait_for_selector(".pane.is-compass")
    assert "view=compass" in tab.url


def test_browser_without_webgl_shows_the_compass(tab, address):
    tab.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    open_page(tab, f"{address}#episode=1_0")
    tab.wait_for_selector(".pane.is-compass .ring-cell")


def test_attention_and_saliency_change_the_picture(tab, address):
    open_page(tab, f"{address}#episode=1_0")
    tab.wait_for_selector(".pane[data-picture='panorama-1']")
    seen = []
    for overlay in ("none", "views", "saliency"):
        tab.select_option("#overlay", overlay)
        tab.wait_for_timeout(400)
        seen.append(tab.locator(".pane").first.screenshot())
    assert len(set(seen)) == 3


def test_words_carry_their_attention_and_unknown_ones_are_marked(tab, address):
    open_page(tab, f"{address}#episode=1_0&step=1")
    words = tab.locator(".word")
    assert words.all_text_contents() == ["go", "up", "stairs"]
    assert re.match(r"attention 0\.9\d\d$", words.first.get_attribute("title"))  # 0.9 on 64 levels
    assert "never seen" in words.nth(2).get_attribute("title")
    assert words.first.evaluate("e => e.style.getPropertyValue('--weight')") == "1.000"
    tab.keyboard.press("ArrowRight")
    assert words.nth(1).evaluate("e => e.style.getPropertyValue('--weight')") == "1.000"


def test_keyboard(tab, address):
    open_page(tab, address)
    first = tab.locator(".row.is-on").get_attribute("data-id")
    tab.keyboard.press("n")
    wait_until(tab, "document.querySelector('.row.is-on').dataset.id === '5_0'")
    tab.keyboard.press("k")
    wait_until(tab, f"document.querySelector('.row.is-on').dataset.id === '{first}'")
    tab.keyboard.press("ArrowRight")
    wait_step(tab, "2 / 2")
    tab.keyboard.press("Home")
    wait_step(tab, "1 / 2")
    tab.keyboard.press(" ")
    wait_step(tab, "2 / 2")
    tab.keyboard.press("?")
    assert tab.locator("#help").is_visible()
    tab.keyboard.press("Escape")
    tab.keyboard.press("/")
    tab.keyboard.type("n?")  # into the search field, not to the page
    assert tab.locator("#search").input_value() == "n?"


def test_two_agents_stand_side_by_side(tab, address):
    open_page(tab, f"{address}#episode=1_0&panes=2&step=2")
    assert tab.locator(".pane").count() == 2
    tab.wait_for_timeout(600)
    assert heading(tab, 0) == pytest.approx(-1.571, abs=0.01)  # A went west, B east
    assert heading(tab, 1) == pytest.approx(1.571, abs=0.01)
    assert tab.locator(".map-walk").count() == 2
    tab.keyboard.press("a")
    assert tab.locator(".pane.is-focus").get_attribute("data-agent") == "1"


def test_themes(tab, address):
    open_page(tab, address)
    ground = "getComputedStyle(document.body).backgroundColor"
    light = tab.evaluate(ground)
    tab.emulate_media(color_scheme="dark")
    dark = tab.evaluate(ground)
    assert dark != light
    tab.click("#theme")  # from as the system to light
    assert tab.evaluate(ground) == light
    tab.click("#theme")
    assert tab.evaluate(ground) == dark


def test_without_scores_nothing_speaks_of_them(tab, tmp_path):
    document, _ = page_document(pictures=False, agents=1)
    document["episodes"] = [one for one in document["episodes"] if one["path"] is None]
    write_page(document, [], tmp_path / "hidden.html")
    open_page(tab, (tmp_path / "hidden.html").as_uri())
    assert not tab.locator("#outcome").is_visible()
    assert tab.locator("#order option").all_inner_texts() == ["longest walk first", "id"]
    assert tab.locator(".legend").inner_text().split() == ["A", "start"]
    assert tab.locator("#head-facts .outcome").count() == 0


def test_a_walk_from_a_file_says_what_it_lacks(tab, address):
    open_page(tab, f"{address}#episode=5_0")
    assert "From a prediction file: places only, no probabilities." in tab.locator("#decision").inner_text()


def test_the_end_that_an_agent_did_not_read_is_shown_as_such(tab, address):
    open_page(tab, f"{address}#episode=4_0")
    assert tab.locator(".unread").count() == 0
    cut = "unreadPart('Go up the STAIRS, then wait.', ['<BOS>', 'go', 'up', 'the', 'stairs', '<EOS>'])"
    assert tab.evaluate(cut) == "then wait."
    assert tab.evaluate("unreadPart('दरवाज़े पर रुकें। फिर', ['<hi>', 'दरवाज़े', 'पर', 'रुकें', '।'])") == "फिर"
    assert tab.evaluate("unreadPart('Go on.', ['go', 'on', '.', '<EOS>'])") == ""
    assert tab.evaluate("unreadPart('Go on.', ['<UNK>', 'on'])") == ""  # words that cannot be told apart


def test_a_long_instruction_scrolls_to_the_word_attended_to(tab, tmp_path):
    document, _ = page_document(pictures=False, agents=1)
    walk = document["episodes"][0]["walks"][0]
    walk["words"] = [f"word{k}" for k in range(400)]
    walk["decisions"][0]["w"], walk["decisions"][1]["w"] = "/" + "A" * 399, "A" * 399 + "/"
    document["episodes"] = document["episodes"][:1]
    write_page(document, [], tmp_path / "long.html")
    open_page(tab, (tmp_path / "long.html").as_uri())
    assert tab.evaluate("byId('instruction').scrollTop") == 0
    tab.keyboard.press("ArrowRight")
    wait_until(tab, "byId('instruction').scrollTop > 100")
