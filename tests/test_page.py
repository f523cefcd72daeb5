"""The page as a file: everything inside, nothing executed that came from data."""

import json
import re
from html.parser import HTMLParser

import pytest

from tests.page_document import HINDI, SCRIPT, decode_panorama, page_document
from vln_clip.errors import InputError
from vln_clip.viewer.page import SCRIPTS, page_html, write_page


class Elements(HTMLParser):
    """Collect the attributes and text of every script, style and link as a browser would see them."""

    def __init__(self):
        super().__init__()
        self.found, self.open, self.addresses = [], None, []

    def handle_starttag(self, tag, attributes):
        self.addresses += [value for name, value in attributes if name in ("src", "href", "action", "srcset")]
        if tag in ("script", "style"):
            self.open = (tag, dict(attributes), [])
            self.found.append(self.open)

    def handle_data(self, data):
        if self.open:
            self.open[2].append(data)

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self.open = None


def elements(text):
    parser = Elements()
    parser.feed(text)
    return parser


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    document, jpegs = page_document()
    path = tmp_path_factory.mktemp("page") / "deep" / "page.html"
    write_page(document, jpegs, path)
    return document, jpegs, path


def test_page_is_one_file_without_addresses(written):
    text = written[2].read_text(encoding="utf-8")
    assert [path.name for path in written[2].parent.iterdir()] == ["page.html"]
    assert not elements(text).addresses
    assert set(re.findall(r"https?://[\w./]*", text)) == {"http://www.w3.org/2000/svg"}  # a name, nothing is fetched


def test_document_comes_back_whole_and_holds_no_markup(written):
    document, _, path = written
    text = path.read_text(encoding="utf-8")
    scripts = {attributes.get("id"): "".join(data) for tag, attributes, data in elements(text).found if tag == "script"}
    assert json.loads(scripts["document"]) == document
    assert "<script>document" not in text
    assert HINDI in text
    assert SCRIPT not in text


def test_panoramas_lie_in_the_page_by_number(written):
    _, jpegs, path = written
    scripts = {attributes.get("id"): "".join(data) for tag, attributes, data in elements(path.read_text()).found}
    assert [decode_panorama(scripts[f"panorama-{k}"]) for k in range(12)] == jpegs


def test_wrong_number_of_panoramas_is_refused_and_nothing_is_left(tmp_path):
    document, jpegs = page_document()
    with pytest.raises(ValueError, match="counts 12 panoramas, but 11 were given"):
        write_page(document, jpegs[1:], tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


def test_page_in_a_folder_that_is_a_file_is_one_sentence(tmp_path):
    (tmp_path / "folder").write_text("")
    with pytest.raises(InputError, match=r"page\.html cannot be written"):
        write_page(*page_document(), tmp_path / "folder" / "page.html")


def test_third_agent_is_refused():
    document, _ = page_document(pictures=False)
    document["agents"].append({"name": "third", "about": ""})
    with pytest.raises(ValueError, match="at most 2 agents, got 3"):
        page_html(document)


def test_pictures_that_would_be_missing_are_refused():
    with pytest.raises(ValueError, match="12 panoramas that lie in no page"):
        page_html(page_document()[0])


def test_only_the_live_page_may_reach_its_server():
    document, _ = page_document(pictures=False)
    offline, live = page_html(document), page_html(document | {"live": True})
    policy = re.compile(r'Content-Security-Policy" content="([^"]*)"')
    assert "connect-src" not in policy.search(offline)[1]
    assert "connect-src 'self'" in policy.search(live)[1]
    for page in (offline, live):
        assert policy.search(page)[1].startswith("default-src 'none'; script-src 'sha256-")
        assert "unsafe" not in policy.search(page)[1]


def test_placeholders_in_data_stay_as_they_are():
    document, _ = page_document(pictures=False)
    document["title"] = "@script@ and @style@"
    assert page_html(document).count("@script@ and @style@") == 1


def test_every_script_is_in_the_page_and_readable():
    from importlib.resources import files

    folder = files("vln_clip.viewer") / "web"
    assert sorted(SCRIPTS) == sorted(file.name for file in folder.iterdir() if file.name.endswith(".js"))
    for name in SCRIPTS:
        text = (folder / name).read_text(encoding="utf-8")
        assert len(text.splitlines()) < 400, name
        assert text.startswith("// "), f"{name}: say in its first line what it is for"
        assert "innerHTML" not in text, f"{name}: build elements of text, not of markup"


def test_text_that_utf_8_cannot_hold_comes_back(tmp_path):
    document, jpegs = page_document()
    document["agents"][0]["name"] = "a \ud83d b 😀"
    write_page(document, jpegs, tmp_path / "page.html")
    (text,) = re.findall(r'id="document">(.*?)</script>', (tmp_path / "page.html").read_text("utf-8"), re.S)
    assert json.loads(text)["agents"][0]["name"] == "a \ud83d b 😀"
