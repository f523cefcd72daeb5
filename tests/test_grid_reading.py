"""Reading grids: batches of a store, files of other programs, regions, and the commands that check them."""

import base64
import pickle
import threading

import numpy as np
import pytest
import torch

from tests.readers_features import write_regions
from vln_clip.errors import InputError
from vln_clip.features.__main__ import main
from vln_clip.features.buffers import Buffers
from vln_clip.features.grid import open_grid, write_index
from vln_clip.features.opening import open_image_grids
from vln_clip.features.regions import RegionFile, read_regions
from vln_clip.features.store import StoreHeader, StoreWriter

SHAPE = (6, 2, 3)
NUM_FILES, PER_FILE = 3, 5


def value(number):
    return torch.arange(36).view(SHAPE) + 100.0 * number


def write_store(folder, encoder="pixels:6", shape_of=value):
    header, keys = StoreHeader(encoder, preset="vqa", source="pictures"), {}
    for file in range(NUM_FILES):
        name = f"images-{file:05d}.safetensors"
        with StoreWriter(folder / name, header, "float32", grid=True) as writer:
            for row in range(PER_FILE):
                number = file * PER_FILE + row
                writer.add(f"img_{number}", shape_of(number))
        keys[name] = tuple(writer.keys)
    write_index(folder, header, keys)
    return folder


@pytest.fixture
def store(tmp_path):
    (tmp_path / "x.grid").mkdir()
    return write_store(tmp_path / "x.grid")


def test_batches_of_any_keys_are_read_in_their_order(store, monkeypatch):
    grids = open_grid(store)
    numbers = [14, 0, 7, 7, 3, 12]
    expected = torch.stack([value(number) for number in numbers])
    keys = [f"img_{number}" for number in numbers]
    assert grids.shape == SHAPE
    assert torch.equal(grids.read(keys), expected)
    monkeypatch.setattr("vln_clip.features.grid._BYTES_PER_THREAD", 200)  # several threads
    monkeypatch.setattr("vln_clip.features.grid.num_threads", lambda: 4)
    monkeypatch.setattr("vln_clip.features.grid._MAX_OPEN_FILES", 1)
    assert torch.equal(open_grid(store).read(keys), expected)
    monkeypatch.delattr("os.preadv")  # as on Windows
    assert torch.equal(open_grid(store).read(keys), expected)
    assert open_grid(store).read([]).shape == (0, *SHAPE)
    assert torch.equal(pickle.loads(pickle.dumps(grids)).read(keys), expected)


def test_tensors_that_are_in_use_are_not_written_over(store):
    grids = open_grid(store)
    kept = [grids.read([f"img_{number}"])[0] for number in range(8)]  # views keep the memory too
    assert all(torch.equal(grid, value(number)) for number, grid in enumerate(kept))


def test_memory_that_nobody_uses_is_used_again():
    buffers = Buffers()
    first = torch.from_numpy(buffers.take(100))
    address = first.data_ptr()
    assert torch.from_numpy(buffers.take(100)).data_ptr() != address
    view = first[3:5]
    del first
    assert torch.from_numpy(buffers.take(100)).data_ptr() != address
    del view
    assert torch.from_numpy(buffers.take(60)).data_ptr() == address


def test_threads_read_at_once(store):
    grids, wrong = open_grid(store), []

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(50):
            numbers = rng.integers(0, 15, 6)
            found = grids.read([f"img_{number}" for number in numbers])
            if not torch.equal(found, torch.stack([value(int(number)) for number in numbers])):
                wrong.append(numbers)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_features_of_another_kind_are_refused(store, tmp_path):
    assert open_image_grids(store, "pixels:6", "vqa").shape == SHAPE
    with pytest.raises(InputError, match="features of another encoder: grid features must come from clip_rn50, got"):
        open_image_grids(store, "clip_rn50")
    with pytest.raises(InputError, match=r"must be made with --preset caption, got .*x\.grid made with vqa"):
        open_image_grids(store, preset="caption")
    with pytest.raises(InputError, match=r"image img_99 must have grid features, got none in .*x\.grid \(15 images\)"):
        open_grid(store).read(["img_0", "img_99"])
    (tmp_path / "views.grid").mkdir()
    write_store(tmp_path / "views.grid", shape_of=lambda number: torch.zeros(36, 4, 2, 2))
    with pytest.raises(InputError, match=r"must hold grids \(C, h, w\) of images.*which are those of views"):
        open_image_grids(tmp_path / "views.grid")
    (tmp_path / "x.lmdb").mkdir()
    with pytest.raises(InputError, match=r"LMDB files of features cannot be read.*numpy\.save"):
        open_image_grids(tmp_path / "x.lmdb")
    path = store / "images-00001.safetensors"
    grids = open_grid(store)
    grids.check_files()
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size - 900)
    with pytest.raises(InputError, match=r"images-00001\.safetensors must be complete, got one that ends early"):
        grids.read(["img_9"])


# One grid of 2 rows and 3 columns with 6 channels, in every order in which others write it.
FIRST, LAST = value(1).numpy(), value(1).numpy().transpose(1, 2, 0)
FORMS = {
    "pythia": (".npy", lambda path: np.save(path, LAST[None].astype(np.float32))),
    "fortran": (".npy", lambda path: np.save(path, np.asfortranarray(LAST[None].astype(">f4")))),
    "caption": (".npz", lambda path: np.savez_compressed(path, feat=LAST.astype(np.float32))),
    "mcan": (".pth", lambda path: torch.save(torch.from_numpy(LAST[None].copy()).half(), path)),
    "mmf": (".pth", lambda path: torch.save(torch.from_numpy(FIRST[None].copy()), path)),
    "dictionary": (".pth", lambda path: torch.save({"feat": torch.from_numpy(FIRST), "size": torch.ones(2)}, path)),
}


@pytest.mark.parametrize("form", FORMS)
def test_files_of_other_programs_are_read_in_both_orders(tmp_path, form):
    ending, write = FORMS[form]
    (tmp_path / "f" / "val2014").mkdir(parents=True)
    (tmp_path / "f" / "train2014").mkdir()
    write(tmp_path / "f" / "val2014" / f"393267{ending}")
    write(tmp_path / "f" / "train2014" / f"COCO_train2014_000000000009{ending}")
    grids = open_image_grids(tmp_path / "f")
    keys = ["COCO_val2014_000000393267", "COCO_train2014_000000000009", "393267"]
    assert torch.equal(grids.read(keys).float(), value(1).expand(3, *SHAPE))
    assert "COCO_train2014_000000000010" not in grids
    with pytest.raises(InputError, match=r"image COCO_train2014_000000000010 must have features, got none in"):
        grids.read(["COCO_train2014_000000000010"])
    with pytest.raises(InputError, match="grids of clip_rn50 have 2048 channels, got 6"):
        open_image_grids(tmp_path / "f", "clip_rn50")


def test_a_number_in_two_folders_is_that_of_the_split(tmp_path):
    for number, split in enumerate(("train2014", "test2015")):
        (tmp_path / split).mkdir()
        np.save(tmp_path / split / "7.npy", value(number).numpy())
    grids = open_image_grids(tmp_path)
    assert torch.equal(grids.read(["COCO_test2015_000000000007"])[0], value(1))
    with pytest.raises(InputError, match=r"must have one file of features in .*, got some in .*2015 and .*2014"):
        grids.read(["COCO_val2014_000000000007"])


def test_vectors_beside_grids_are_read(tmp_path):
    np.save(tmp_path / "5.npy", np.arange(4, dtype=np.float32))
    assert open_image_grids(tmp_path).vectors(["5", "COCO_val2014_000000000005"]).tolist() == [[0, 1, 2, 3]] * 2


def test_hdf5_files_are_read(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.hdf5", "w") as archive:
        archive["5"], archive["COCO_val2014_000000000006"] = LAST, FIRST[None]
    grids = open_image_grids(tmp_path / "x.hdf5")
    keys = ["COCO_train2014_000000000005", "COCO_val2014_000000000006"]
    assert torch.equal(grids.read(keys), value(1).expand(2, *SHAPE))


def write_objects(path):
    np.save(path, np.array([{"feat": 1}], object))


BAD = [
    ("a.npy", write_objects, r"a\.npy must hold one array of floats, got ValueError: values of type object"),
    ("a.npy", lambda path: path.write_bytes(b"\x93NUMPY"), r"a\.npy must hold one array of floats, got ValueError"),
    ("a.npy", lambda path: np.save(path, np.ones((2, 6), int)), r"values of type int64"),
    (
        "a.npy",
        lambda path: np.save(path, np.ones((6, 6, 6))),
        r"a in .* must be a grid, got shape \(6, 6, 6\)",
    ),
    ("a.npz", lambda path: np.savez(path, x=LAST, y=LAST), r"a\.npz must hold .*arrays x\.npy, y\.npy instead of feat"),
    (
        "a.pth",
        lambda path: torch.save(pytest.approx(1.0), path),
        r"a\.pth must hold one array.*Unpickling",
    ),
    ("a.pth", lambda path: torch.save(torch.ones(1).expand(1, 6, 6, 999), path), r"shape \(1, 6, 6, 999\) from"),
]


@pytest.mark.parametrize(("name", "write", "message"), BAD)
def test_bad_files_of_other_programs_are_one_sentence(tmp_path, name, write, message):
    write(tmp_path / name)
    with pytest.raises(InputError, match=message) as caught:
        open_image_grids(tmp_path).read(["a"])
    assert "\n" not in str(caught.value)


def test_grids_of_several_shapes_make_no_batch(tmp_path):
    np.save(tmp_path / "a.npy", value(0).numpy())
    np.save(tmp_path / "b.npy", np.zeros((9, 2, 2)))
    with pytest.raises(InputError, match=r"must have one shape.*, got \(6, 2, 3\) and \(9, 2, 2\) of b"):
        open_image_grids(tmp_path).read(["a", "b"])


def test_regions_are_read_with_their_boxes(tmp_path):
    write_regions(tmp_path / "x.tsv")
    (one, two) = read_regions(tmp_path / "x.tsv")
    assert (one.key, two.key, one.size_px) == ("one", "two", (2, 4))
    assert one.object_ids.tolist() == [3, 1]
    assert two.features.tolist() == [[1, 2, 3], [4, 5, 6]]
    batch = RegionFile(tmp_path / "x.tsv").read(["two", "one"])
    assert batch.features.shape == (2, 2, 3)
    # 2 pixels high and 4 wide: (1, 1, 2, 2) are shares (1/4, 1/2, 2/4, 2/2)
    assert batch.boxes[0].tolist() == [[0, 0, 1, 1], [0.25, 0.5, 0.5, 1]]
    assert batch.mask.all()


def test_bad_regions_are_one_sentence(tmp_path):
    path = tmp_path / "x.tsv"
    write_regions(path)
    text = path.read_text()
    path.write_text(text[:-30])
    with pytest.raises(InputError, match=r"x\.tsv line 2: features must be base64 of f4 numbers of shape \(2, -1\)"):
        list(read_regions(path))
    path.write_text(text + text)
    with pytest.raises(InputError, match=r"x\.tsv must have each image once, got one again in line 3"):
        RegionFile(path)
    bad = base64.b64encode(np.full((2, 4), np.nan, "<f4").tobytes()).decode()
    cells = text.split("\n")[0].split("\t")
    path.write_text("\t".join([*cells[:8], bad, cells[9]]))
    with pytest.raises(InputError, match=r"line 1: boxes must be finite numbers, got others"):
        list(read_regions(path))


def test_verify_reads_every_map_and_compares_with_images(store, tmp_path, capsys):
    main(["verify", str(store)])
    assert "x.grid: 15 maps of 6 x 2 x 3, pixels:6\n  sound\n" in capsys.readouterr().out
    (tmp_path / "bad.grid").mkdir()
    write_store(tmp_path / "bad.grid", "clip_rn50", lambda number: value(number) * (number != 4))
    with pytest.raises(InputError, match=r"must be sound and complete, got .*bad\.grid"):
        main(["verify", str(tmp_path / "bad.grid")])
    out = capsys.readouterr().out
    assert "1 maps are all zero: img_4" in out
    assert "grid features of clip_rn50 have 2048 channels, got 6" in out
    (tmp_path / "images").mkdir()
    for number in (3, 15):
        (tmp_path / "images" / f"img_{number}.jpg").write_bytes(b"")
    with pytest.raises(InputError, match="sound and complete"):
        main(["verify", str(store), "--images", str(tmp_path / "images")])
    out = capsys.readouterr().out
    assert "images: 1 of 2" in out
    assert "1 images have no grid: img_15" in out


def test_a_folder_of_another_program_is_inspected_and_verified(tmp_path, capsys):
    np.save(tmp_path / "a.npy", LAST.astype(np.float32))
    main(["inspect", str(tmp_path)])
    assert "1 grids, first a of 6 x 2 x 3 float32 (C x h x w)" in capsys.readouterr().out
    main(["verify", str(tmp_path)])
    assert "1 maps of 6 x 2 x 3, unknown encoder" in capsys.readouterr().out
