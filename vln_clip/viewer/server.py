"""The live server of ``vln_clip.visualize --serve``: pick a start, type an instruction, watch the agent decide.

It keeps nothing between requests: a request names start, instruction and the actions that somebody chose, and the
answer is the walk. Bound to this machine alone; who may ask is the matter of ``guard``, what of ``requests``.
"""

import os
import socket
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from vln_clip.envs.render import load_skybox
from vln_clip.errors import InputError
from vln_clip.log import logger
from vln_clip.records import Episode
from vln_clip.setting import LoadedFollower
from vln_clip.viewer.document import Json, ShownAgent, episode_json, make_document
from vln_clip.viewer.guard import HOST, Guard, page_policy
from vln_clip.viewer.panoramas import panorama_jpeg
from vln_clip.viewer.requests import MAX_BODY_BYTES, MAX_QUERY, RefusalError, WalkRequest, require_viewpoint
from vln_clip.viewer.saliency import SaliencyMaker
from vln_clip.viewer.skyboxes import SkyboxFinder
from vln_clip.viewer.tracing import trace_instruction

_MIN_WIDTH_PX, _MAX_WIDTH_PX = 1024, 2048  # of a panorama; JPEG would coarsen smaller ones visibly
_KEPT_PANORAMAS = 64  # JPEG files in memory, some 300 kB each
_MAX_EPISODES = 50  # in one answer


def serve(
    loaded: LoadedFollower,
    split: str,
    port: int,
    agent: ShownAgent,
    page: Callable[[Json], str],
    saliency: bool = False,
) -> None:
    """Serve until interrupted.

    Args:
        loaded: the follower with its world.
        split: opened split whose episodes can be started from.
        port: on 127.0.0.1; 0 takes a free one.
        agent: its name, and what it is.
        page: makes the page of a document (``page.page_html``).
        saliency: answer with heat maps, too.

    Raises:
        InputError: the port is taken or not this user's to take.
    """
    with _listen(port) as listening:
        port = listening.getsockname()[1]
        app = make_app(Live(loaded, split, agent, saliency), page, port)
        address = f"http://{HOST}:{port}/"
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, lifespan="off", server_header=False, timeout_graceful_shutdown=3
        )
        try:
            _Server(config, address).run(sockets=[listening])
        except KeyboardInterrupt:  # which uvicorn passes on when it has closed its connections
            logger.info("stopped")


class Live:
    """A follower that walks on demand, one request at a time."""

    def __init__(self, loaded: LoadedFollower, split: str, agent: ShownAgent, saliency: bool = False) -> None:
        self.loaded, self.split, self.agent = loaded, split, agent
        self.tables = loaded.setting.tables
        self.languages = loaded.setting.vocabulary.languages or loaded.setting.dataset.languages
        self.finder = SkyboxFinder(loaded.setting.data, self.tables)
        self.draw = lru_cache(maxsize=_KEPT_PANORAMAS)(self._draw)
        self._one_at_a_time = threading.Lock()
        places = [self.finder.find(viewpoint) for viewpoint in range(len(self.tables.viewpoint_ids))]
        self.has_panorama = [place is not None for place in places]
        probe = self.has_panorama.index(True) if any(self.has_panorama) else 0
        self.saliency = SaliencyMaker(loaded, probe) if saliency else None
        some = places[probe]
        size_px = 0 if some is None else load_skybox(some.folder, some.viewpoint_id).shape[1]
        # As many pixels as a skybox has around the horizon.
        self.width_px = 0 if some is None else min(_MAX_WIDTH_PX, max(_MIN_WIDTH_PX, 4 * size_px))

    def document(self) -> Json:
        """Return the document of the page: every building, no episodes; panoramas have addresses."""
        dataset, name = self.loaded.setting.dataset.name, self.agent.name
        document = make_document(
            [self.agent],
            self.tables,
            title=f"{name}, live in {dataset} {self.split}",
            dataset=dataset,
            split=self.split,
            facts=[f"{name}: {self.agent.about}", f"features: {self.loaded.features}"],
            notes=[] if any(self.has_panorama) else ["no panoramas: there are no skyboxes of these buildings"],
            scans=self.tables.scans,
        )
        for scan, graph in document["scans"].items():
            here = self.tables.viewpoints(scan).tolist()
            graph["panorama"] = [viewpoint if self.has_panorama[viewpoint] else -1 for viewpoint in here]
        url = "/panorama/{scan}/{viewpoint}.jpg" if any(self.has_panorama) else None
        size = {"width": self.width_px, "height": self.width_px // 2, "count": sum(self.has_panorama), "url": url}
        return document | {"panoramas": size, "live": True, "languages": list(self.languages)}

    def walk(self, wanted: WalkRequest) -> Json:
        """Return the walk that was asked for as an episode of the document."""
        place = (wanted.scan, wanted.start, wanted.heading)
        text = (wanted.instruction, wanted.language)
        with self._one_at_a_time:
            try:
                with torch.inference_mode():
                    trace = trace_instruction(self.loaded, *place, *text, wanted.actions, wanted.finish)
            except InputError as error:
                raise RefusalError(422, str(error)) from None
            if self.saliency:  # which needs gradients
                trace = self.saliency.add(trace)
        return episode_json([trace], self.tables)

    def episodes(self, query: str) -> list[Json]:
        """Return episodes whose instruction, id, path or building has every word of a query, the first 50."""
        words, found = query.casefold().split(), []
        for episode in self.loaded.setting.splits[self.split].episodes:
            text = f"{episode.instruction} {episode.instr_id} {episode.scan}".casefold()
            if all(word in text for word in words):
                found.append(self._start(episode))
                if len(found) == _MAX_EPISODES:
                    break
        return found

    def panorama(self, scan: str, viewpoint_id: str) -> bytes:
        """Return the panorama of a viewpoint, a JPEG file."""
        require_viewpoint(self.tables, scan, viewpoint_id)
        viewpoint = self.tables.index(scan, viewpoint_id)
        if not self.has_panorama[viewpoint]:
            raise RefusalError(404, "this viewpoint has no skybox")
        return self.draw(viewpoint)

    def _draw(self, viewpoint: int) -> bytes:
        place = self.finder.find(viewpoint)
        assert place is not None, viewpoint
        return panorama_jpeg(place.folder, place.viewpoint_id, place.rotation, self.width_px)

    def _start(self, episode: Episode) -> Json:
        first = int(self.tables.viewpoints(episode.scan)[0])
        path = episode.path and [self.tables.index(episode.scan, viewpoint) - first for viewpoint in episode.path]
        found = {"id": episode.instr_id, "scan": episode.scan, "start": episode.start, "path": path}
        heading = round(episode.heading_rad, 3)
        return found | {"heading": heading, "instruction": episode.instruction, "language": episode.language}


def make_app(live: Live, page: Callable[[Json], str], port: int) -> ASGIApp:
    """Return the application of a follower.

    Args:
        live: what answers.
        page: makes the page of a document.
        port: where it will listen: requests to other addresses are refused.
    """
    html = page(live.document())

    async def index(request: Request) -> Response:
        return HTMLResponse(html, headers={"Cache-Control": "no-store"})

    async def walk(request: Request) -> Response:
        wanted = WalkRequest.parse(await _body(request), live.tables, live.languages)
        return JSONResponse({"episode": await run_in_threadpool(live.walk, wanted)})

    async def episodes(request: Request) -> Response:
        query = request.query_params.get("query", "")
        if len(query) > MAX_QUERY:
            raise RefusalError(422, f"query must have at most {MAX_QUERY} characters")
        return JSONResponse({"episodes": live.episodes(query)})

    async def panorama(request: Request) -> Response:
        names = request.path_params["scan"], request.path_params["viewpoint"]
        picture = await run_in_threadpool(live.panorama, *names)
        return Response(picture, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=600"})

    async def icon(request: Request) -> Response:
        return Response(status_code=204)

    routes = [
        Route("/", index),
        Route("/favicon.ico", icon),
        Route("/api/walk", walk, methods=["POST"]),
        Route("/api/episodes", episodes),
        Route("/panorama/{scan}/{viewpoint}.jpg", panorama),
    ]
    handlers: dict[Any, Any] = {RefusalError: _refused, HTTPException: _no_such_page}
    handlers |= {InputError: _lacking, Exception: _failed}
    return Guard(Starlette(routes=routes, exception_handlers=handlers), port, page_policy(html))


async def _body(request: Request) -> bytes:
    """Read the body of a request, as far as it may go."""
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise RefusalError(413, f"the body must have at most {MAX_BODY_BYTES} bytes")
    except ClientDisconnect:  # nobody reads this
        raise RefusalError(400, "the body ended too early") from None
    return body


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusalError)
    return JSONResponse({"error": str(error)}, error.status)


async def _no_such_page(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    known = {404: "there is nothing at this address", 405: "this address does not take such requests"}
    return JSONResponse({"error": known.get(error.status_code, error.detail)}, error.status_code, error.headers)


async def _lacking(request: Request, error: Exception) -> Response:
    """Answer where a file is missing or damaged; a browser is not told of this machine's folders."""
    logger.error("%s", error)
    return JSONResponse(
        {"error": "a file that this needs is missing or damaged; the server's terminal says which"}, 500
    )


async def _failed(request: Request, error: Exception) -> Response:
    """Answer where we are wrong ourselves; uvicorn logs what happened."""
    return JSONResponse({"error": "the server failed; its terminal says why"}, 500)


class _Server(uvicorn.Server):
    """Says where it listens when it does."""

    def __init__(self, config: uvicorn.Config, address: str) -> None:
        super().__init__(config)
        self.address = address

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        if self.started:
            logger.info("open %s in a browser; Ctrl-C stops the server", self.address)


def _listen(port: int) -> socket.socket:
    """Return a socket bound to a port of this machine alone."""
    if not 0 <= port <= 65535:
        raise InputError(f"--port must be from 0 (any free one) to 65535, got {port}")
    # The protocol must be named: asyncio sends without delay (40 ms) only where it can tell that a socket is TCP.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if os.name == "posix":  # else a port stays taken for a minute after its server; on Windows it would be shared
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
    except OSError as error:
        listening.close()
        reason = error.strerror or error
        raise InputError(f"--port must be a free port of {HOST}, got {port} ({reason}); --port 0 takes any") from None
    return listening
