"""The canvas of pre-training: sizes, margins, orientation and colors."""

import numpy as np
import pytest
from PIL import Image

from vln_clip.tasks.pretraining.vision import LANDSCAPE, PORTRAIT, CanvasSize, margins

PUBLIC = CanvasSize()


# Golden cases of the released code: width x height -> height x width, then left, right, top, bottom.
@pytest.mark.parametrize(
    ("size", "resized", "around"),
    [
        ((640, 480), (384, 512), (64, 64, 0, 0)),  # 512 of 640 columns
        ((640, 427), (384, 575), (33, 32, 0, 0)),  # 384 * 640 / 427 = 575.55; 65 columns missing, the odd one left
        ((500, 500), (384, 384), (0, 0, 128, 128)),  # a square is padded as a portrait
        ((640, 360), (360, 640), (0, 0, 12, 12)),  # 384 * 640 / 360 = 683 > 640, so the short side is 360
        ((1024, 300), (188, 641), (0, -1, 98, 98)),  # 640 * 300 / 1024 = 187.5 -> 188; one column too many
        ((427, 640), (575, 384), (0, 0, 33, 32)),
        ((100, 75), (384, 512), (64, 64, 0, 0)),  # small pictures grow
    ],
)
def test_sizes_and_margins_are_those_of_the_released_code(size, resized, around):
    assert PUBLIC.resized(*size) == resized
    H, W = PUBLIC.shape(PUBLIC.orientation(*size))
    assert (*margins(resized[1], W), *margins(resized[0], H)) == around


@pytest.mark.parametrize(
    ("size", "orientation", "shape"),
    [
        ((640, 480), LANDSCAPE, (3, 384, 640)),
        ((480, 640), PORTRAIT, (3, 640, 384)),
        ((500, 500), PORTRAIT, (3, 640, 384)),
        ((501, 500), PORTRAIT, (3, 640, 384)),  # 384 * 501 / 500 = 384.8 -> 384: square when it is padded
        ((1024, 300), LANDSCAPE, (3, 384, 640)),
    ],
)
def test_orientation_is_that_of_the_padded_picture(size, orientation, shape):
    assert PUBLIC.orientation(*size) == orientation
    assert PUBLIC.fit(Image.new("RGB", size)).shape == shape


def test_a_picture_lies_in_the_middle_of_a_black_canvas():
    # 6x4 on a canvas of 4x9: as it is; 3 columns missing, 2 of them left and 1 right
    pixels = np.random.default_rng(0).integers(1, 256, (4, 6, 3), np.uint8)
    fitted = CanvasSize(4, 9).fit(Image.fromarray(pixels))
    assert fitted.shape == (3, 4, 9)
    np.testing.assert_array_equal(fitted[:, :, 2:8], pixels.transpose(2, 0, 1))
    assert not fitted[:, :, :2].any()
    assert not fitted[:, :, 8:].any()


def test_a_picture_too_long_for_the_canvas_loses_its_last_column():
    size = CanvasSize(6, 10)
    # 64x19: 6 * 64 / 19 = 20 > 10; 10 * 19 / 64 = 2.97 -> 3; 3 * 64 / 19 = 10.1 -> 10: fits
    assert size.resized(64, 19) == (3, 10)
    # 64x16: 10 * 16 / 64 = 2.5 -> 2 (half to even); 2 * 64 / 16 = 8
    assert size.resized(64, 16) == (2, 8)
    # 64x10: 10 * 10 / 64 = 1.56 -> 2; 2 * 64 / 10 = 12.8 -> 12: two columns too many, one of each side is cropped
    assert size.resized(64, 10) == (2, 12)
    columns = np.repeat(np.arange(12, dtype=np.uint8)[None, :, None], 2, 0).repeat(3, 2)
    # 12x2 itself: 10 * 2 / 12 = 1.67 -> 2 and 2 * 12 / 2 = 12: it is not resized, only cropped
    fitted = size.fit(Image.fromarray(columns))
    np.testing.assert_array_equal(fitted[0, 2], np.arange(1, 11))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "LA", "1", "I;16"])
@pytest.mark.parametrize("after", [False, True])
def test_pictures_of_any_mode_become_rgb(mode, after):
    picture = Image.new("I;16", (48, 32)) if mode == "I;16" else Image.new("RGB", (48, 32), (200, 20, 20)).convert(mode)
    assert CanvasSize(16, 24).fit(picture, after).shape == (3, 16, 24)


def test_palettes_are_interpolated_unless_the_released_order_is_asked_for():
    # Two colors side by side: nearest pixels keep two, interpolated ones have others between them.
    pixels = np.zeros((30, 45, 3), np.uint8)
    pixels[:, 22:] = 255
    palette = Image.fromarray(pixels).convert("P")
    size = CanvasSize(10, 15)
    assert len(np.unique(size.fit(palette))) > 2
    assert len(np.unique(size.fit(palette, convert_after_resize=True))) == 2


def test_a_picture_too_thin_is_refused():
    with pytest.raises(ValueError, match=r"2000x1 pixels are too thin for 640 pixels"):
        PUBLIC.orientation(2000, 1)
    with pytest.raises(ValueError, match="1 <= short_px <= long_px, got 640 and 384"):
        CanvasSize(640, 384)
