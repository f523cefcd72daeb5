"""The live server on the toy world: walks, panoramas, and everything that it refuses."""

import asyncio
import io
import json
import math
import socket
import threading

import pytest
import torch
from PIL import Image
from starlette.requests import Request
from starlette.testclient import TestClient

from tests.toy_world import point_to
from vln_clip.errors import InputError
from vln_clip.setting import load_follower
from vln_clip.viewer import server
from vln_clip.viewer.document import ShownAgent, episode_json, levels_text
from vln_clip.viewer.guard import page_policy
from vln_clip.viewer.requests import MAX_BODY_BYTES, RefusalError
from vln_clip.viewer.saliency import add_saliency
from vln_clip.viewer.tracing import trace_instruction

PORT = 8123
SPLIT = "val_unseen"
KITCHEN, GARAGE = "Walk to the kitchen.", "Find the garage, then wait."
WALK = {
    "scan": "beta",
    "start": "b1",
    "heading": 0.3,
    "instruction": KITCHEN,
    "language": "en",
    "actions": [],
    "finish": True,
}


def page(document):
    return f'<html><script>"run"</script><script type="application/json">{json.dumps(document)}</script></html>'


@pytest.fixture(scope="module")
def loaded(seeing):
    with pytest.MonkeyPatch.context() as patch:
        point_to(seeing.folder, patch)
        return load_follower(seeing.runs / "toy", None, [SPLIT], torch.device("cpu"))


@pytest.fixture(scope="module")
def live(loaded):
    return server.Live(loaded, SPLIT, ShownAgent("toy", "a toy"))


@pytest.fixture(scope="module")
def client(live):
    return TestClient(server.make_app(live, page, PORT), base_url=f"http://127.0.0.1:{PORT}")


def walk(client, **changes):
    answer = client.post("/api/walk", json=WALK | changes)
    assert answer.status_code == 200, answer.text
    return answer.json()["episode"]["walks"][0]


def trace(loaded, instruction=KITCHEN, actions=(), finish=True):
    return trace_instruction(loaded, "beta", "b1", 0.3, instruction, "en", actions, finish)


def test_a_walk_is_the_one_of_the_tracing(client, loaded):
    answer = client.post("/api/walk", json=WALK).json()
    assert answer == {"episode": json.loads(json.dumps(episode_json([trace(loaded)], loaded.setting.tables)))}
    assert answer["episode"]["instruction"] == KITCHEN
    assert answer["episode"]["path"] is None


def test_another_instruction_is_another_walk(client):
    one, other = (walk(client, instruction=text)["decisions"] for text in (KITCHEN, GARAGE))
    assert one[0]["c"] == other[0]["c"]
    assert one[0]["p"] != other[0]["p"]
    assert one[0]["w"] != other[0]["w"]


def test_a_step_ahead_is_decided_but_not_made(client):
    found = walk(client, finish=False)
    assert len(found["viewpoints"]) == len(found["decisions"]) == 1


def test_forced_actions_are_taken_and_can_be_taken_back(client):
    free, forced = walk(client, finish=False), walk(client, actions=[1, 0], finish=False)
    assert [decision["a"] for decision in forced["decisions"][:2]] == [1, 0]
    assert [decision.get("forced", False) for decision in forced["decisions"]] == [True, True, False]
    assert forced["viewpoints"][1] == free["decisions"][0]["c"][1]
    assert walk(client, actions=[1], finish=False)["decisions"][0] == forced["decisions"][0]
    assert walk(client, finish=False) == free


def test_stopping_can_be_forced(client):
    count = len(walk(client, finish=False)["decisions"][0]["c"])
    found = walk(client, actions=[count])
    assert len(found["viewpoints"]) == 1
    assert [decision["a"] for decision in found["decisions"]] == [count]


def test_a_turn_more_changes_nothing(client):
    assert walk(client, heading=0.3 - 4 * math.pi)["decisions"] == walk(client)["decisions"]


def test_heat_maps_come_where_they_are_asked_for(loaded):
    live = server.Live(loaded, SPLIT, ShownAgent("toy", "a toy"), saliency=True)
    client = TestClient(server.make_app(live, page, PORT), base_url=f"http://127.0.0.1:{PORT}")
    found = walk(client, finish=False)["decisions"][0]["s"]
    (expected,) = add_saliency([trace(loaded, finish=False)], loaded)
    assert found == {"height": 6, "width": 8, "data": levels_text(expected.decisions[0].saliency)}


def test_walks_asked_for_at_once_do_not_mix(client):
    texts = [KITCHEN, GARAGE] * 4
    expected = {text: walk(client, instruction=text) for text in set(texts)}
    found = {}

    def ask(number):
        found[number] = walk(client, instruction=texts[number])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found[number] == expected[text] for number, text in enumerate(texts))


def test_the_page_has_all_buildings_and_no_episodes(client, loaded):
    text = client.get("/").text
    document = json.loads(text.split('json">', 1)[1].split("</script>")[0])
    assert document["live"] is True
    assert list(document["scans"]) == list(loaded.setting.tables.scans)
    assert document["episodes"] == []
    assert document["languages"] == ["en"]
    size = {"width": 1024, "height": 512, "count": 8}
    assert document["panoramas"] == size | {"url": "/panorama/{scan}/{viewpoint}.jpg"}
    assert min(document["scans"]["beta"]["panorama"]) >= 0


def test_panoramas_are_drawn_on_demand(client):
    answer = client.get("/panorama/beta/b3.jpg")
    assert answer.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(answer.content)).size == (1024, 512)
    assert answer.content != client.get("/panorama/beta/b4.jpg").content
    assert answer.content == client.get("/panorama/beta/b3.jpg").content


def test_without_skyboxes_there_are_no_panoramas(world):
    loaded = load_follower(world.runs / "toy", None, [SPLIT], torch.device("cpu"))
    live = server.Live(loaded, SPLIT, ShownAgent("toy", "a toy"))
    client = TestClient(server.make_app(live, page, PORT), base_url=f"http://127.0.0.1:{PORT}")
    assert live.document()["panoramas"]["url"] is None
    assert live.document()["notes"] == ["no panoramas: there are no skyboxes of these buildings"]
    refused(client.get("/panorama/beta/b3.jpg"), 404, "this viewpoint has no skybox")
    assert walk(client)["viewpoints"]


def test_episodes_are_found_by_their_words(client, loaded):
    everything = client.get("/api/episodes").json()["episodes"]
    assert len(everything) == len(loaded.setting.splits[SPLIT].episodes) == 12
    found = client.get("/api/episodes", params={"query": "STOP room"}).json()["episodes"]
    assert {episode["instruction"].split()[0] for episode in found} == {"Leave"}
    assert found[0] == {
        "id": "300_1",
        "scan": "beta",
        "start": "b0",
        "path": [0, 1, 2, 4],
        "heading": 0.0,
        "instruction": "Leave this room and stop in the study.",
        "language": "en",
    }
    assert client.get("/api/episodes", params={"query": "nothing like it"}).json() == {"episodes": []}


def refused(answer, status, sentence):
    """Check that an answer is one sentence and gives nothing away."""
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    assert sentence in answer.json()["error"]
    assert "Traceback" not in answer.text
    assert "/" not in answer.json()["error"].replace("application/json", "")
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("changes", "status", "sentence"),
    [
        ({"scan": "alpha-prime"}, 404, "no such building"),
        ({"scan": "../../etc"}, 404, "no such building"),
        ({"start": "b9"}, 404, "no such viewpoint"),
        ({"start": "bx"}, 404, "no such viewpoint"),  # in the file, but excluded
        ({"start": ["b1"]}, 422, "start must be a text"),
        ({"scan": 3}, 422, "scan must be a text"),
        ({"heading": "north"}, 422, "heading must be a finite number"),
        ({"heading": True}, 422, "heading must be a finite number"),
        ({"heading": 10**400}, 422, "heading must be a finite number"),
        ({"instruction": ""}, 422, "instruction must hold at least one word"),
        ({"instruction": " \n "}, 422, "instruction must hold at least one word"),
        ({"instruction": None}, 422, "instruction must be a text"),
        ({"instruction": "x" * 5000}, 422, "at most 4000 characters"),
        ({"language": "tlh"}, 422, "language must be one of en"),
        ({"actions": 3}, 422, "actions must be a list"),
        ({"actions": [0.0]}, 422, "actions must be a list"),
        ({"actions": [True]}, 422, "actions must be a list"),
        ({"actions": [-1]}, 422, "actions must be a list"),
        ({"actions": [0] * 300}, 422, "actions must be a list of at most 200"),
        ({"actions": [0, 77]}, 422, "action 2 must be from 0 to"),
        ({"actions": [3, 0]}, 422, "nothing can follow"),
        ({"finish": "yes"}, 422, "finish must be true or false"),
        ({"path": "x"}, 422, "missing or unknown: path"),
    ],
)
def test_wrong_fields_are_refused(client, changes, status, sentence):
    refused(client.post("/api/walk", json=WALK | changes), status, sentence)


def post(client, body, **headers):
    return client.post("/api/walk", content=body, headers={"content-type": "application/json"} | headers)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b"[" * 60000, b"[]", b'"walk"', b"null"], ids=lambda body: repr(body[:4])
)
def test_bodies_that_are_no_object_are_refused(client, body):
    refused(post(client, body), 422, "the body must be")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_are_refused(client, number):
    body = json.dumps(WALK).replace("0.3", number)
    refused(post(client, body.encode()), 422, "heading must be a finite number")


def test_half_characters_are_refused(client):
    refused(post(client, json.dumps(WALK).replace("kitchen", "\\ud800").encode()), 422, "instruction must be a text")


def test_missing_fields_are_named(client):
    body = {name: value for name, value in WALK.items() if name != "heading"}
    refused(client.post("/api/walk", json=body), 422, "missing or unknown: heading")


def test_a_huge_body_is_refused(client):
    body = json.dumps(WALK | {"instruction": "x" * MAX_BODY_BYTES}).encode()
    refused(post(client, body), 413, "at most 65536 bytes")

    def pieces():
        for _ in range(100):
            yield b" " * 1000

    refused(post(client, pieces()), 413, "at most 65536 bytes")  # without a length in advance


@pytest.mark.parametrize(
    "host", ["evil.example", f"evil.example:{PORT}", "127.0.0.1", f"127.0.0.1:{PORT + 1}", f"127.0.0.1.evil:{PORT}", ""]
)
@pytest.mark.parametrize("path", ["/", "/panorama/beta/b3.jpg", "/api/episodes"])
def test_foreign_hosts_are_refused(client, host, path):
    refused(client.get(path, headers={"host": host}), 400, "its own address only")


def test_localhost_is_another_name_of_it(client):
    assert client.get("/", headers={"host": f"localhost:{PORT}"}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:80", f"https://127.0.0.1:{PORT}"])
def test_foreign_pages_are_refused(client, origin):
    refused(client.post("/api/walk", json=WALK, headers={"origin": origin}), 403, "its own page only")


def test_its_own_page_may_ask(client):
    assert client.post("/api/walk", json=WALK, headers={"origin": f"http://127.0.0.1:{PORT}"}).status_code == 200


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
def test_bodies_that_any_page_may_send_are_refused(client, kind):
    answer = client.post("/api/walk", content=json.dumps(WALK), headers={"content-type": kind})
    refused(answer, 415, "application/json")


@pytest.mark.parametrize(
    "path",
    [
        "/panorama/../../etc/passwd",
        "/panorama/%2e%2e/%2e%2e/etc/passwd",
        "/panorama/..%2f..%2fetc/passwd.jpg",
        "/panorama/beta/..%2f..%2f..%2fetc%2fpasswd.jpg",
        "/panorama/beta/b3.jpg/../../../../etc/passwd",
        "/panorama/beta/b3.png",
        "/panorama/beta/..%5c..%5cwin.ini.jpg",
        "/panorama/beta/b3%00.jpg",
        "/panorama/gamma/b3.jpg",
        "/panorama//etc/passwd.jpg",
        "/etc/passwd",
        "/api/walk/x",
        "/docs",
    ],
)
def test_other_addresses_are_refused(client, path):
    answer = client.get(path)
    refused(answer, 404, "")
    assert "root:" not in answer.text


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/api/walk"), ("PUT", "/api/walk"), ("DELETE", "/"), ("OPTIONS", "/api/walk")]
)
def test_other_methods_are_refused(client, method, path):
    refused(client.request(method, path), 405, "does not take such requests")


def test_long_queries_are_refused(client):
    refused(client.get("/api/episodes", params={"query": "x" * 201}), 422, "query must have at most 200 characters")


def test_our_own_mistakes_give_nothing_away(live, monkeypatch):
    def fail(wanted):
        raise RuntimeError("secret of /home/me")

    monkeypatch.setattr(live, "walk", fail)
    app = server.make_app(live, page, PORT)
    careful = TestClient(app, base_url=f"http://127.0.0.1:{PORT}", raise_server_exceptions=False)
    refused(careful.post("/api/walk", json=WALK), 500, "the server failed")


def test_damaged_files_are_told_to_the_terminal_alone(live, monkeypatch, caplog):
    def fail(viewpoint):
        raise InputError("skybox image must be a complete JPEG, got /home/me/b3.jpg")

    monkeypatch.setattr(live, "draw", fail)
    careful = TestClient(server.make_app(live, page, PORT), base_url=f"http://127.0.0.1:{PORT}")
    answer = careful.get("/panorama/beta/b3.jpg")
    refused(answer, 500, "the server's terminal says which")
    assert "/home/me" not in answer.text
    assert "/home/me/b3.jpg" in caplog.text


def test_who_leaves_before_the_body_is_whole_is_no_failure():
    coming = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])

    async def receive():
        return next(coming)

    with pytest.raises(RefusalError, match="the body ended too early"):
        asyncio.run(server._body(Request({"type": "http"}, receive)))


def test_every_answer_has_the_headers_of_a_careful_server(client):
    for path in ("/", "/panorama/beta/b3.jpg", "/api/episodes", "/nothing"):
        headers = client.get(path).headers
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "access-control-allow-origin" not in headers


def test_only_the_scripts_of_the_page_may_run():
    html = '<script>a < b</script><script type="application/json">{}</script><script type="module">c</script>'
    # printf 'a < b' | openssl dgst -sha256 -binary | base64, and of c
    one, other = "7+Hlx2Vr8LqQcasoFPqn2AmTTgoMPYgL6CInd4G5SiI=", "Ln0sA6lQeuJl7PW1NWiFpTOTogKdJBOUmXJloaJa78Y="
    assert f"script-src 'sha256-{one}' 'sha256-{other}';" in page_policy(html)
    assert "script-src 'none'" in page_policy("<p>")


def test_a_taken_port_is_one_sentence(loaded):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=rf"--port must be a free port of 127.0.0.1, got {port} \(.+\); --port 0"):
            server.serve(loaded, SPLIT, port, ShownAgent("toy", "a toy"), page)
    with pytest.raises(InputError, match="--port must be from 0"):
        server.serve(loaded, SPLIT, 70000, ShownAgent("toy", "a toy"), page)


def test_it_says_where_it_listens_and_stops_quietly(loaded, monkeypatch, caplog):
    found = {}

    class Interrupted(server._Server):
        async def startup(self, sockets=None):
            await super().startup(sockets)
            found["address"] = sockets[0].getsockname()
            self.handle_exit(2, None)  # as Ctrl-C does

    monkeypatch.setattr(server, "_Server", Interrupted)
    monkeypatch.setattr(server.logger, "propagate", True)
    with caplog.at_level("INFO", logger="vln_clip"):
        server.serve(loaded, SPLIT, 0, ShownAgent("toy", "a toy"), page)
    host, port = found["address"]
    assert host == "127.0.0.1"
    assert f"open http://127.0.0.1:{port}/ in a browser" in caplog.messages[0]
