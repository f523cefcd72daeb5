"""Training the encoder together with the follower (``train --train-encoder``): what is needed, and one step of it."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vln_clip import extract, log, paths
from vln_clip.config import TrainConfig
from vln_clip.connectivity import NavTables
from vln_clip.devices import product_type
from vln_clip.encoders import Encoder, create_encoder
from vln_clip.envdrop import FollowerLearner, norm_name
from vln_clip.errors import InputError
from vln_clip.features.encoded import EncodedViews
from vln_clip.features.extraction import Panorama
from vln_clip.features.locate import BLIND, cached_path, dataset_key, is_file_name, split_name
from vln_clip.features.rendered import RenderedViews, ViewRecipe
from vln_clip.ranks import fetch
from vln_clip.sources.table import MATTERPORT_TERMS

PICTURES = "encoder/pictures"


@dataclass
class EndToEndLearner:
    """One step of follower and encoder: rollouts on fresh features, their gradients sent on, both clipped, one step.

    Attributes:
        learner: of the follower; its optimizer has the encoder's parameters too (``with_encoder``).
        views: what its world sees.
    """

    learner: FollowerLearner
    views: EncodedViews

    def __call__(self) -> dict[str, float]:
        """Take one optimizer step."""
        learner, encoder = self.learner, self.views.encoder
        learner.optimizer.zero_grad(set_to_none=True)
        before = self.views.num_encoded
        self.views.begin_step()
        numbers = learner.accumulate()
        self.views.backward()
        learner.ranks.sum_gradients(encoder)
        norm = nn.utils.clip_grad_norm_(encoder.parameters(), learner.config.clip_norm)
        numbers |= learner.watch.checked_norms(fetch({norm_name("tower"): norm}))
        numbers |= learner.update()
        self.views.end_step()
        return numbers | {PICTURES: float(self.views.num_encoded - before)}


def with_encoder(learner: FollowerLearner, views: EncodedViews, lr: float) -> EndToEndLearner:
    """Let a follower's learner train the encoder too, at a learning rate of its own."""
    parameters = [parameter for parameter in views.encoder.parameters() if parameter.requires_grad]
    learner.optimizer.add_param_group({"params": parameters, "lr": lr})
    return EndToEndLearner(learner, views)


def open_views(settings: TrainConfig, data: Path, tables: NavTables, device: torch.device) -> EncodedViews:
    """Open the encoder of ``--features`` to be trained, and the views that it looks at.

    Raises:
        InputError: there is no such encoder or it has no weights, or the pictures are not on this machine.
    """
    c = settings.encoder
    panoramas = _panoramas(data, tables)
    encoder = create_encoder(settings.features, True, device)
    if not encoder.trainable:
        raise InputError(
            f"--train-encoder needs an encoder with weights, got --features {settings.features}, which is a fixed "
            "function; name a network"
        )
    free_parameters(encoder, c.encoder_norms)
    recipe = ViewRecipe.of(encoder, extract.Skyboxes(), extract.RENDERER)
    views = RenderedViews(panoramas, recipe, paths.cache_dir())
    count, size = sum(p.numel() for p in encoder.parameters() if p.requires_grad), views.num_bytes / 1e9
    log.logger.info(
        "encoder %s (%s): %s parameters learn, at %g; views of %d viewpoints as %s take %.3g GB of the cache. Each "
        "validation encodes anew all viewpoints that it visits",
        encoder.name, encoder.weights, f"{count:,}", c.encoder_lr, len(views), recipe.name, size,
    )  # fmt: skip
    with log.progress() as bar:
        task = bar.add_task("views", total=len(views), status="viewpoints")
        views.render_missing(lambda done: bar.update(task, completed=done))
    return EncodedViews(encoder, views, c.encoder_micro_batch, product_type(settings.precision, device))


class KeptViews(extract.Skyboxes):
    """The same views as of skybox files, rendered and fitted already; what is left to do leaves them as they are."""

    def __init__(self, rendered: RenderedViews):
        self._rendered = rendered
        self._row = {panorama.key: row for row, panorama in enumerate(rendered.panoramas)}

    def load(self, panorama: Panorama) -> Tensor:
        """Read the views, (36, 3, h, w) uint8."""
        return self._rendered.read([self._row[panorama.key]])[0]

    def draw(self, faces: Tensor, panorama: Panorama, size_px: tuple[int, int]) -> Tensor:
        """Return what ``load`` read, (36, h, w, 3); the size is that of the encoder's input."""
        return faces.permute(0, 2, 3, 1)


def extract_kept(rendered: RenderedViews, features: str, data: Path, dataset: str, device: torch.device) -> None:
    """Extract features of a trained encoder into the cache without rendering the views once more.

    Args:
        rendered: the views.
        features: ``tower:PATH``.
        data: the data folder.
        dataset: whose panoramas these are.
        device: where the encoder runs.
    """
    path = cached_path(features, paths.cache_dir(), dataset_key(dataset, data))
    if not path.is_file():
        encoder, source = create_encoder(features, True, device), KeptViews(rendered)
        extract.extract_features(encoder, rendered.panoramas, path, source=source, origin=dataset)


def require_encoder(features: str) -> None:
    """Raise ``InputError`` unless ``--features`` names one encoder; its weights are looked at when it is made."""
    found = None
    if features == BLIND:
        found = "a blind agent"
    elif is_file_name(features) or Path(features).is_file():
        found = "a file of features"
    elif len(split_name(features)) > 1:
        found = "several encoders"
    if found:
        raise InputError(
            f"--train-encoder needs one encoder and the pictures that it looks at, got --features {features}, which is "
            f"{found}; name the encoder, e.g. clip_rn50 or tower:PATH"
        )


def free_parameters(encoder: Encoder, norms: bool) -> None:
    """Let all parameters learn, scale and shift of batch norms only with ``norms``; statistics never change."""
    encoder.eval().requires_grad_(True)
    for module in encoder.modules():
        if isinstance(module, _BatchNorm):
            module.requires_grad_(norms)


def _panoramas(data: Path, tables: NavTables) -> list[Panorama]:
    """Return the panorama of every global viewpoint index."""
    scans = list(dict.fromkeys(scan for scan, _ in tables.keys))
    lacking = [scan for scan in scans if extract.find_skybox_folder(data, scan) is None]
    if lacking:
        raise InputError(
            f"--train-encoder needs the pictures of every building, features alone are not enough, got none of "
            f"{len(lacking)} of {len(scans)}, e.g. {lacking[0]}, in {data / 'scans'}; Matterport3D's can be had after "
            f"signing its terms of use, {MATTERPORT_TERMS}"
        )
    found = {(panorama.scan, panorama.viewpoint_id): panorama for panorama in extract.list_panoramas(data, "", scans)}
    panoramas = [found[key] for key in tables.keys]
    extract.check_skyboxes(panoramas)
    return panoramas
