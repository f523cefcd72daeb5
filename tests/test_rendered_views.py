"""Rendered views in the cache: what they are, when they are made, and what happens to damaged ones."""

import numpy as np
import pytest
import torch

from tests.tiny_clip import NAME, stand_in
from tests.toy_skyboxes import write_skyboxes
from tests.toy_world import write_graphs
from vln_clip import extract
from vln_clip.encoders import create_encoder
from vln_clip.end_to_end import KeptViews
from vln_clip.errors import InputError
from vln_clip.features.extraction import Options, fit_views
from vln_clip.features.pipeline import extract_rows
from vln_clip.features.rendered import RenderedViews, ViewRecipe


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_graphs(folder / "connectivity")
    write_skyboxes(folder)
    with pytest.MonkeyPatch.context() as patch:
        stand_in(patch, "resnet")
        encoder = create_encoder(NAME, False)
    panoramas = [item for item in extract.list_panoramas(folder, "x") if item.scan == "gamma"]
    return encoder, panoramas, ViewRecipe.of(encoder, extract.Skyboxes(), "test")


class Counted(extract.Skyboxes):
    """Skyboxes that note which were read."""

    def __init__(self):
        self.read = []

    def load(self, panorama):
        self.read.append(panorama.viewpoint_id)
        return super().load(panorama)


def test_views_are_those_that_features_are_extracted_from(world, tmp_path):
    encoder, panoramas, recipe = world
    views = RenderedViews(panoramas, recipe, tmp_path)
    views.render_missing()
    found = views.read([2, 0, 2])
    assert found.shape == (3, 36, 3, 64, 64)
    assert torch.equal(found[0], found[2])
    skyboxes, options = extract.Skyboxes(), Options()
    for row, place in ((2, 0), (0, 1)):
        drawn = skyboxes.draw(skyboxes.load(panoramas[row]), panoramas[row], (640, 480))
        assert torch.equal(found[place], fit_views(drawn, options.transform(encoder), "rgb"))
    assert views.num_bytes == 5 * 36 * 3 * 64 * 64


def test_features_of_kept_views_are_those_of_skyboxes(world, tmp_path):
    encoder, panoramas, recipe = world
    views = RenderedViews(panoramas, recipe, tmp_path)
    views.render_missing()
    rows = [
        dict(extract_rows(encoder, panoramas, source, Options())) for source in (extract.Skyboxes(), KeptViews(views))
    ]
    assert rows[0].keys() == rows[1].keys()
    for key, row in rows[0].items():
        np.testing.assert_array_equal(row, rows[1][key])


def test_views_are_rendered_once_and_again_where_pictures_change(world, tmp_path):
    encoder, panoramas, _ = world
    counted, steps = Counted(), []
    recipe = ViewRecipe.of(encoder, counted, "test")
    for _ in range(2):
        RenderedViews(panoramas, recipe, tmp_path).render_missing(steps.append)
    assert sorted(counted.read) == ["g0", "g1", "g2", "g3", "g4"]
    assert steps == [0, 5, 5]
    picture = next(panoramas[0].folder.glob("g0_skybox0*"))
    content = picture.read_bytes()
    picture.write_bytes(content + b"x")
    try:
        RenderedViews(panoramas, recipe, tmp_path).render_missing()
    finally:
        picture.write_bytes(content)
    assert len(counted.read) == 10


def test_encoders_that_are_fed_alike_share_views_and_others_do_not(world, monkeypatch):
    encoder, _, recipe = world
    stand_in(monkeypatch, "vit")
    assert ViewRecipe.of(encoder, extract.Skyboxes(), "test").name == recipe.name
    assert ViewRecipe.of(create_encoder(NAME, False), extract.Skyboxes(), "test").name != recipe.name
    assert ViewRecipe.of(encoder, extract.Skyboxes(), "other renderer").name != recipe.name


DAMAGE = {
    "cut off": lambda content: content[:-1000],
    "empty": lambda content: b"",
    "text": lambda content: b"hello",
    "other shape": lambda content: content.replace(b"(5, 36, 3, 64, 64)", b"(5, 36, 3, 64, 32)"),
    "other type": lambda content: content.replace(b"'|u1'", b"'|i1'"),
    "objects": lambda content: content.replace(b"'|u1'", b"'|O' "),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_views_are_one_clear_sentence(world, tmp_path, damage):
    _, panoramas, recipe = world
    RenderedViews(panoramas, recipe, tmp_path).render_missing()
    (path,) = tmp_path.rglob("*.npy")
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with pytest.raises(InputError, match=r"\.npy must hold rendered views, but can't be read: .*; remove it, and the"):
        RenderedViews(panoramas, recipe, tmp_path).read([0])


def test_a_disk_without_room_is_told_before_rendering(world, tmp_path, monkeypatch):
    encoder, panoramas, _ = world
    counted = Counted()
    views = RenderedViews(panoramas, ViewRecipe.of(encoder, counted, "test"), tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(InputError, match=r"rendered views of 5 viewpoints need 0.00221 GB, got 1e-06 GB free in .*;"):
        views.render_missing()
    assert not counted.read
