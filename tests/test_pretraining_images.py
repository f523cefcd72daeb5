"""Images of tables: found in folders and shards, measured once, read onto canvases."""

import os
import shutil
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from tests import toy_pairs
from vln_clip.errors import InputError
from vln_clip.features.images import read_rgb
from vln_clip.tasks.pretraining import image_sizes
from vln_clip.tasks.pretraining import images as image_files
from vln_clip.tasks.pretraining.images import ImageFiles
from vln_clip.tasks.pretraining.pieces import WordPieces
from vln_clip.tasks.pretraining.places import ImagePlaces
from vln_clip.tasks.pretraining.sampler import GroupedSampler
from vln_clip.tasks.pretraining.sources import Source
from vln_clip.tasks.pretraining.stored import load_pairs
from vln_clip.tasks.pretraining.vision import CanvasSize

SMALL = CanvasSize(16, 24)
KEYS = [toy_pairs.key(number) for number in range(6)]  # landscape, portrait, square, and again


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VLN_CLIP_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    return toy_pairs.write_pictures(tmp_path / "images")


def open_files(*roots, keys=KEYS, **options):
    return ImageFiles(ImagePlaces.loose(keys), roots, SMALL, **options)


def shard_files(folder, *members):
    """Open the images of a shard with captions."""
    (folder / "s.tar").write_bytes(toy_pairs.tar(*members))
    table = load_pairs([Source.parse("shards:s.tar", folder)], toy_pairs.PIECES, None)
    return table, ImageFiles(table.places, (), SMALL)


def test_images_are_read_onto_the_canvas(folder):
    files = open_files(folder)
    assert files.orientation.tolist() == [0, 1, 1, 0, 1, 1]
    for rows, shape in (([0, 3], (16, 24)), ([5, 1, 2, 1], (24, 16))):
        images = files.read(torch.tensor(rows))
        assert images.dtype == torch.uint8
        assert images.shape == (len(rows), 3, *shape)
        for image, row in zip(images, rows, strict=True):
            np.testing.assert_array_equal(image, SMALL.fit(read_rgb(folder / f"{KEYS[row]}.jpg")))


def test_batches_of_the_sampler_are_read_whatever_they_are(folder, tmp_path):
    table, files = toy_pairs.table(tmp_path), open_files(folder)
    sampler = GroupedSampler(files.orientation[table.image_rows], 4, 0)
    for _ in range(12):
        batch = table.batch(sampler.next(), torch.Generator().manual_seed(0))
        assert files.read(batch.image_rows).shape[0] == 4


def test_both_orientations_in_one_batch_are_refused(folder):
    files = open_files(folder)
    with pytest.raises(InputError, match=r"one orientation, got landscape .*img0.jpg and portrait .*img2.jpg; draw"):
        files.read(torch.tensor([0, 3, 2]))


def test_images_are_found_in_several_roots_and_below(folder, tmp_path):
    # As Visual Genome's: one root whose folders hold the images; a second one has some of them again.
    for number, name in enumerate(KEYS):
        part = tmp_path / "vg" / f"VG_100K{'_2' * (number % 2)}"
        part.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / f"{name}.jpg", part)
    (tmp_path / "vg" / "loop").symlink_to(tmp_path / "vg")
    files = open_files(tmp_path / "vg", folder)
    assert [files.name(row).split(os.sep)[-2] for row in range(3)] == ["VG_100K", "VG_100K_2", "VG_100K"]
    (tmp_path / "vg" / "VG_100K" / "img0.jpg").unlink()
    assert open_files(tmp_path / "vg", folder).name(0) == str(folder / "img0.jpg")


def test_absent_images_are_told(folder, tmp_path):
    with pytest.raises(
        InputError, match=r"every image must be in .*images, but 2 of 8 are not there, the first 'img6'"
    ):
        open_files(folder, keys=[*KEYS, "img6", "img7"])
    with pytest.raises(InputError, match=r"images must be in folders, got .*nowhere, which is none"):
        open_files(tmp_path / "nowhere")
    with pytest.raises(InputError, match="a folder, but none was named"):
        open_files()


@pytest.mark.parametrize("content", [b"", b"no picture", None])
def test_a_file_that_is_no_picture_is_told_at_once(folder, content):
    path = folder / "img2.jpg"
    path.write_bytes(path.read_bytes()[:60] if content is None else content)
    with pytest.raises(InputError, match=r"complete JPEG, PNG or WebP file, got .*img2.jpg"):
        open_files(folder)


def test_a_truncated_picture_is_told_when_it_is_read(folder):
    path = folder / "img2.jpg"
    path.write_bytes(path.read_bytes()[:-400])
    files = open_files(folder)
    files.read(torch.tensor([1, 5]))
    with pytest.raises(InputError, match=r"got .*img2.jpg \(image file is truncated"):
        files.read(torch.tensor([1, 2]))


def test_an_image_that_goes_or_changes_is_told(folder):
    files = open_files(folder)
    (folder / "img0.jpg").unlink()
    Image.new("RGB", (10, 40)).save(folder / "img3.jpg")
    with pytest.raises(InputError, match=r"image .*img0.jpg must exist"):
        files.read(torch.tensor([0]))
    with pytest.raises(InputError, match=r"image .*img3.jpg must not change while it is used"):
        files.read(torch.tensor([3]))


def test_a_picture_too_thin_is_told(folder):
    Image.new("RGB", (400, 1)).save(folder / "img1.jpg")  # 24 / 400 = 0.06 of a pixel
    with pytest.raises(InputError, match=r"img1.jpg: 400x1 pixels are too thin .*; remove it"):
        open_files(folder)


def test_sizes_are_read_once_and_again_where_a_file_changes(folder, monkeypatch):
    opened, read = [], image_sizes._Container._read
    monkeypatch.setattr(
        image_sizes._Container, "_read", lambda self, name, part: (opened.append(name), read(self, name, part))[1]
    )
    open_files(folder, keys=KEYS[:4])
    assert sorted(opened) == [f"img{number}.jpg" for number in range(4)]
    opened.clear()
    open_files(folder)
    assert sorted(opened) == ["img4.jpg", "img5.jpg"]
    opened.clear()
    Image.new("RGB", (10, 40)).save(folder / "img0.jpg")
    files = open_files(folder, keys=KEYS[:2])
    assert opened == ["img0.jpg"]
    assert files.orientation.tolist() == [1, 1]
    (path,) = (folder.parent / "cache" / "image_sizes").iterdir()
    path.write_bytes(path.read_bytes()[:-3])
    opened.clear()
    assert open_files(folder).orientation.tolist() == [1, 1, 1, 0, 1, 1]
    assert len(opened) == 6


@pytest.mark.parametrize("room", [6 * 3 * 16 * 24, 6 * 3 * 16 * 24 - 1])
def test_images_are_decoded_once_where_all_of_them_can_be_kept(folder, monkeypatch, room):
    monkeypatch.setattr(image_files, "KEPT_BYTES", room)
    decoded, read = [], ImageFiles._read
    monkeypatch.setattr(ImageFiles, "_read", lambda self, row, into: (decoded.append(row), read(self, row, into))[1])
    files = open_files(folder)
    first = files.read(torch.tensor([1, 2, 1]))
    again = files.read(torch.tensor([5, 2, 1]))
    assert (again[1:] == first[:2].flip(0)).all()
    np.testing.assert_array_equal(again[0], SMALL.fit(read_rgb(folder / f"{KEYS[5]}.jpg")))
    assert sorted(decoded) == ([1, 2, 5] if room == 6 * 3 * 16 * 24 else [1, 1, 1, 2, 2, 5])


def test_images_are_decoded_in_threads(folder, monkeypatch):
    threads, read = set(), ImageFiles._read
    barrier = threading.Barrier(3, timeout=20)

    def together(self, row, into):
        barrier.wait()
        threads.add(threading.get_ident())
        read(self, row, into)

    files = open_files(folder, workers=3)
    monkeypatch.setattr(ImageFiles, "_read", together)
    files.read(torch.tensor([1, 2, 4]))
    assert len(threads) == 3


def test_members_of_shards_are_read_by_their_offsets(tmp_path):
    content = [toy_pairs.jpeg(number) for number in range(3)]
    members = [(f"{n:05}.{end}", data) for n in range(3) for end, data in (("jpg", content[n]), ("txt", b"a room"))]
    table, files = shard_files(tmp_path, *members)
    assert files.orientation.tolist() == [0, 1, 1]
    (tmp_path / "wanted.jpg").write_bytes(content[2])
    images = files.read(table.image_rows[[1, 2]])
    np.testing.assert_array_equal(images[1], SMALL.fit(read_rgb(tmp_path / "wanted.jpg")))


def test_a_size_far_behind_in_a_member_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(image_sizes, "_HEAD_BYTES", 100)
    members = [(f"{n}.{end}", data) for n in range(2) for end, data in (("jpg", toy_pairs.jpeg(n)), ("txt", b"a room"))]
    assert shard_files(tmp_path, *members)[1].orientation.tolist() == [0, 1]


def test_damaged_members_and_shards_are_told(tmp_path):
    members = [(f"{n}.{end}", data) for n in range(2) for end, data in (("jpg", toy_pairs.jpeg(n)), ("txt", b"a room"))]
    _, files = shard_files(tmp_path, *members)
    shard = tmp_path / "s.tar"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:512])
    with pytest.raises(InputError, match=r"shard .*s.tar must have [\d,]+ bytes, got 512"):
        files.read(torch.tensor([0]))
    shard.write_bytes(whole.replace(toy_pairs.jpeg(0), b"\0" * len(toy_pairs.jpeg(0))))
    with pytest.raises(InputError, match=r"got .*s.tar:0 \("):
        files.read(torch.tensor([0]))
    shard.unlink()
    with pytest.raises(InputError, match=r"shard .*s.tar cannot be read: No such file"):
        files.read(torch.tensor([0]))


def test_word_pieces_and_images_meet_in_a_batch(folder, tmp_path):
    assert isinstance(toy_pairs.PIECES, WordPieces)
    table, files = toy_pairs.table(tmp_path), open_files(folder)
    batch = table.batch(torch.tensor([0, 12]), torch.Generator().manual_seed(0))
    assert files.read(batch.image_rows).shape == (2, 3, 16, 24)
    assert batch.tokens.shape == (2, 8)
