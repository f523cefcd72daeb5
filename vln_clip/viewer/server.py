"""The live server of ``vln_clip.visualize --serve``: pick a start, type an instruction, watch the agent decide.

It keeps nothing between requests: a request names start, instruction and the actions that somebody chose, and the
answer is the walk. Bound to this machine alone; who may ask is ``guard``'s matter, what may be asked ``requests``'s.
"""

import os
import socket
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from vln_clip.connectivity import load_graphs
from vln_clip.errors import InputError
from vln_clip.extract import check_skyboxes, list_panoramas
from vln_clip.features.extraction import Panorama
from vln_clip.log import logger
from vln_clip.records import Episode
from vln_clip.setting import LoadedFollower
from vln_clip.viewer.document import Json, ShownAgent, episode_json, make_document
from vln_clip.viewer.guard import HOST, Guard, page_policy
from vln_clip.viewer.panoramas import panorama_jpeg
from vln_clip.viewer.requests import MAX_BODY_BYTES, MAX_QUERY, Refusal, WalkRequest, require_viewpoint
from vln_clip.viewer.saliency import SaliencyMaker
from vln_clip.viewer.tracing import trace_instruction
