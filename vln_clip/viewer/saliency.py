"""Heat maps over the 36 views: what of each view spoke for a decision, by the gradient through agent and encoder.

Grad-CAM with gradients cell by cell (HiResCAM, Draelos and Carin 2020, equation 3), where the score is the
log-probability of the action and the map the last one that the encoder pools into a view's features. Where that pooling
is a mean it equals Grad-CAM (Selvaraju et al. 2017), whose average of the gradient forgets where other poolings look:
in the demo world the action loses a third less log-probability by covering what that one marks. The gradient takes in
what the agent sees at a place, all around and of its candidates, not what it remembers of earlier places.
"""

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from functools import lru_cache
from itertools import product
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vln_clip import log
from vln_clip.agents.follower import FollowerState
from vln_clip.encoders import Encoder, check_name, create_encoder
from vln_clip.encoders.base import Preprocess
from vln_clip.encoders.relevance import over_picture, weighted_map
from vln_clip.errors import InputError
from vln_clip.extract import Skyboxes
from vln_clip.features import FeatureStore
from vln_clip.features.extraction import Options, Panorama, fit_views
from vln_clip.features.locate import PUBLIC_STEMS
from vln_clip.records import NUM_VIEWS
from vln_clip.setting import LoadedFollower
from vln_clip.viewer.skyboxes import SkyboxFinder
from vln_clip.viewer.traces import Decision, Trace

Order = Literal["rgb", "bgr"]
_MAX_DIFFERENCE = 0.1  # of features made again, relative to those of the store: other weights differ by about 1
_KEPT_PLACES = 2  # the map of a place, with its graph, takes some 50 MB in a ResNet-50
_KEPT_DECISIONS = 128  # heat maps, some 100 kB each: who walks step by step asks for the same ones again


def add_saliency(traces: Sequence[Trace], loaded: LoadedFollower) -> list[Trace]:
    """Give every decision its heat maps.

    Args:
        traces: of this follower, with decisions.
        loaded: the follower with its world.

    Returns:
        The same traces, ``Decision.saliency`` filled.

    Raises:
        InputError: the agent sees nothing; or its encoder, the weights or the skyboxes are not on this machine, or
            have no map, or are not the ones that its features were made with.
    """
    if not traces:
        return []
    maker = SaliencyMaker(loaded, int(traces[0].viewpoints[0]))
    total = sum(len(trace.decisions or ()) for trace in traces)
    found = []
    with log.progress() as bar:
        task = bar.add_task("heat maps", total=total, status="decisions")
        for trace in traces:
            found.append(maker.add(trace))
            bar.advance(task, len(trace.decisions or ()))
    return found


class SaliencyMaker:
    """A follower's encoder and skyboxes, opened to make heat maps.

    Args:
        loaded: the follower with its world.
        probe: global viewpoint at which features are made again, to see that they are the follower's.

    Raises:
        InputError: see ``add_saliency``.
    """

    def __init__(self, loaded: LoadedFollower, probe: int) -> None:
        self.loaded = loaded
        if not loaded.stores:
            raise InputError("--saliency needs an agent that sees, got one without features")
        self._finder = SkyboxFinder(loaded.setting.data, loaded.setting.tables)
        self.encoder, self.options, self.columns = self._find_encoder(self._panorama(probe))
        self._pooled_with_map = lru_cache(maxsize=_KEPT_PLACES)(self._encode)
        self._kept_maps = lru_cache(maxsize=_KEPT_DECISIONS)(self._heat_maps)

    def add(self, trace: Trace) -> Trace:
        """Return a trace of this follower with heat maps."""
        decisions = trace.decisions or ()
        maps = [
            self.heat_maps(int(place), gradient)
            for place, gradient in zip(trace.viewpoints, decision_gradients(self.loaded, trace), strict=False)
        ]
        filled: list[Decision] = [replace(d, saliency=found) for d, found in zip(decisions, maps, strict=True)]
        return replace(trace, decisions=filled if trace.decisions is not None else None)

    def heat_maps(self, viewpoint: int, gradient: Tensor) -> np.ndarray:
        """Return what of each view raises a score whose gradient by the view features (36, D) is given.

        Returns:
            (36, h, w) float32 in [0, 1], over whole views in square cells, 1 at the panorama's maximum, 0 where the
            encoder does not look. All 0 where nothing speaks for it.
        """
        return self._kept_maps(viewpoint, gradient.cpu().numpy().tobytes())

    def _heat_maps(self, viewpoint: int, gradient: bytes) -> np.ndarray:
        """Return ``heat_maps`` of a gradient (36, D) in float32."""
        by_views = torch.from_numpy(np.frombuffer(gradient, np.float32).reshape(NUM_VIEWS, -1).copy())
        pooled, grid = self._pooled_with_map(viewpoint)
        part = by_views[:, self.columns].to(pooled)
        (by_map,) = torch.autograd.grad(pooled, grid, part, retain_graph=True)  # (36, C, h, w)
        maps = weighted_map(grid.detach(), by_map)
        maps = _over_whole_views(maps, self.options.transform(self.encoder), self.options.size_px(self.encoder))
        return (maps / maps.max().clamp_min(torch.finfo(maps.dtype).tiny)).cpu().numpy()

    def _find_encoder(self, probe: Panorama) -> tuple[Encoder, Options, slice]:
        """Return the encoder of the first features that have a map, how they were made, and their columns."""
        problems, start = [], 0
        for store in self.loaded.stores:
            columns = slice(start, start + store.width)
            start = columns.stop
            try:
                encoder = create_encoder(_encoder_name(store), True, self.loaded.setting.device)
                options = _find_options(encoder.requires_grad_(False), store, probe)
            except InputError as error:
                problems.append(f"{store.name}: {error}")
                continue
            if len(self.loaded.stores) > 1:
                log.logger.info("heat maps show what %s sees, one part of %s", encoder.name, self.loaded.features)
            return encoder, options, columns
        raise InputError(f"--saliency needs the encoder of the features; {'; '.join(problems)}")

    def _encode(self, viewpoint: int) -> tuple[Tensor, Tensor]:
        return _pool_views(self.encoder, self._panorama(viewpoint), self.options)

    def _panorama(self, viewpoint: int) -> Panorama:
        """Return the panorama of a global viewpoint."""
        found = self._finder.find(viewpoint)
        if found is None:
            scan, viewpoint_id = self.loaded.setting.tables.keys[viewpoint]
            raise InputError(
                f"--saliency needs skyboxes, but {self._finder.data} has none of viewpoint {viewpoint_id} of {scan}; "
                "put them there, or leave --saliency out"
            )
        return found


class _Leaf:
    """A bank that shows the same views of one place everywhere."""

    name = "leaf"

    def __init__(self, features: Tensor) -> None:
        self.features, self.width = features, int(features.shape[2])

    def views(self, index: Tensor) -> Tensor:
        """Return them; see ``Bank.views``."""
        return self.features


def decision_gradients(loaded: LoadedFollower, trace: Trace) -> list[Tensor]:
    """Replay a trace and return, per decision, the gradient of its log-probability by the view features, (36, D)."""
    world = loaded.world
    batch = loaded.setting.table_of(trace.episode).batch(torch.tensor([0]))
    with torch.no_grad():
        state = loaded.follower.start(batch.tokens, batch.length)
    viewpoint, view, found = batch.viewpoint, batch.view, []
    for decision, place in zip(trace.decisions or (), trace.viewpoints, strict=False):
        assert int(viewpoint) == place, "a trace walks on the graph of its follower"
        state, gradient = view_gradients(loaded, state, viewpoint, view, decision.action)
        found.append(gradient)
        viewpoint, view = world.step(viewpoint, view, torch.tensor([decision.action], device=view.device))
    return found


def view_gradients(
    loaded: LoadedFollower, state: FollowerState, viewpoint: Tensor, view: Tensor, action: int
) -> tuple[FollowerState, Tensor]:
    """Decide once and differentiate.

    Args:
        loaded: the follower with its world.
        state: of one episode, before the decision.
        viewpoint: (1,) int64 place.
        view: (1,) int64 where it looks.
        action: what is done.

    Returns:
        The next state, without gradient, and the gradient of the action's log-probability by the features of the 36
        views, (36, D): as the agent looks around, and as they show candidates.
    """
    world, seen = copy(loaded.world), loaded.world.bank.views(viewpoint).float().requires_grad_()
    world.bank = _Leaf(seen)
    with torch.enable_grad():
        state, logits, _ = loaded.follower.step(world.observe(viewpoint, view), state)
        (gradient,) = torch.autograd.grad(logits.log_softmax(1)[0, action], seen)
    return state.with_memory(state.memory.detach()), gradient[0]


def _find_options(encoder: Encoder, store: FeatureStore, probe: Panorama) -> Options:
    """Return the way of encoding that gives the features of a store, tried on one panorama."""
    wanted = store.features[store.rows[probe.key]].float()
    header, difference = store.header, float("inf")
    orders = [order for order in get_args(Order) if header.channel_order in ("", order)]
    sizes = (header.render_size_px if all(header.render_size_px) else None,)
    norms: tuple[Literal["none", "l2"], ...] = ("l2",) if header.normalization == "l2" else ("none",)
    for order, size, norm in product(orders, sizes, norms):
        options = Options(order, norm, render_size_px=size)
        pooled, _ = _pool_views(encoder, probe, options)
        difference = min(difference, float((pooled.detach().cpu() - wanted).norm() / wanted.norm()))
        if difference <= _MAX_DIFFERENCE:
            return options
    raise InputError(
        f"{store.path} holds features that {encoder.name} ({encoder.weights}) does not make of the skyboxes here: "
        f"they differ by {difference:.0%} at {probe.key}; extract them again, or leave --saliency out"
    )


def _pool_views(encoder: Encoder, panorama: Panorama, options: Options) -> tuple[Tensor, Tensor]:
    """Encode the views of a panorama as features (36, D) of a map (36, C, h, w), a leaf."""
    source, transform = Skyboxes(), options.transform(encoder)
    views = source.draw(source.load(panorama), panorama, options.size_px(encoder))
    device = next((tensor.device for tensor in (*encoder.parameters(), *encoder.buffers())), torch.device("cpu"))
    images = transform.scale(fit_views(views, transform, options.channel_order).to(device))
    pooled, grid = encoder.pooled_with_map(images)
    if options.normalize == "l2":
        with torch.enable_grad():
            pooled = F.normalize(pooled, dim=1)
    return pooled, grid


def _over_whole_views(maps: Tensor, transform: Preprocess, view_px: tuple[int, int]) -> Tensor:
    """Put maps (36, h, w) of what an encoder gets of a view into maps of the whole view, in square cells.

    Args:
        maps: of the view's middle where the encoder crops, else of the whole view, maybe squashed.
        transform: its preprocessing.
        view_px: width and height of a view.
    """
    (width_px, height_px), (h, w) = view_px, maps.shape[1:]
    rows = round(h * height_px / transform.window(height_px, width_px).height)
    unit = height_px // math.gcd(width_px, height_px)  # a multiple of so many rows makes cells exactly square
    rows = math.ceil(rows / unit) * unit if unit <= rows else rows
    columns = round(rows * width_px / height_px)
    return (
        maps if (rows, columns) == (h, w) else over_picture(maps, transform, (height_px, width_px), (rows, columns))[0]
    )


def _encoder_name(store: FeatureStore) -> str:
    """Return the encoder that made a store; files under their public names count as theirs."""
    name = {stem: encoder for encoder, stem in PUBLIC_STEMS.items()}.get(store.name, store.name)
    check_name(name)
    return name
