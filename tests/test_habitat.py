import math

import numpy as np
import pytest

from vln_clip.tasks.habitat import (
    heading_of_rotation,
    rotation_of_heading,
    to_habitat,
    to_habitat_heading,
    to_matterport,
    to_matterport_heading,
)

HALF = math.sqrt(0.5)


def test_matterport_s_up_is_habitat_s_up_and_north_is_minus_z():
    # Matterport: x east, y north, z up. Habitat: x east, y up, -z north.
    assert to_habitat([1, 2, 3]).tolist() == [1, 3, -2]
    assert to_matterport([1, 3, -2]).tolist() == [1, 2, 3]


def test_positions_of_any_shape_come_back():
    positions = np.random.default_rng(0).normal(size=(4, 5, 3))
    assert np.array_equal(to_matterport(to_habitat(positions)), positions)
    assert np.array_equal(to_habitat(to_matterport(positions)), positions)
    assert to_habitat(np.zeros((0, 3))).shape == (0, 3)


@pytest.mark.parametrize(
    ("matterport", "habitat"),
    [(0, 0), (math.pi / 2, -math.pi / 2), (math.pi, math.pi), (1.5 * math.pi, math.pi / 2), (2 * math.pi, 0)],
)
def test_a_turn_to_the_right_is_negative_in_habitat(matterport, habitat):
    assert to_habitat_heading(matterport) == pytest.approx(habitat, abs=1e-12)
    assert to_matterport_heading(habitat) == pytest.approx(matterport % (2 * math.pi), abs=1e-12)


def test_headings_come_back_and_stay_in_range():
    headings = np.linspace(0, 2 * math.pi, 1001)[:-1]
    there = to_habitat_heading(headings)
    assert (there > -math.pi).all()
    assert (there <= math.pi).all()
    np.testing.assert_allclose(to_matterport_heading(there), headings, atol=1e-12)
    assert to_matterport_heading(1e-17) == 0
    assert math.copysign(1, to_habitat_heading(0.0)) == 1


@pytest.mark.parametrize(
    ("rotation", "heading_rad"),
    [
        ([0, 0, 0, 1], 0),  # along -z, that is north
        ([0, HALF, 0, HALF], 1.5 * math.pi),  # a quarter to the left: -z goes to -x, west
        ([0, -HALF, 0, HALF], 0.5 * math.pi),  # a quarter to the right: east
        ([0, 1, 0, 0], math.pi),
        ([0, -HALF, 0, -HALF], 1.5 * math.pi),  # the same rotation with the other sign
        ([0.2588190451, 0, 0, 0.9659258263], 0),  # north, looking up 30°
    ],
)
def test_rotations_by_hand(rotation, heading_rad):
    assert heading_of_rotation(rotation) == pytest.approx(heading_rad, abs=1e-9)


def test_rotations_come_back():
    for heading in np.linspace(0, 6.28, 60):
        assert heading_of_rotation(rotation_of_heading(heading)) == pytest.approx(heading, abs=1e-9)


def test_where_an_agent_walks_is_where_its_heading_points():
    # Heading 30° to the right of north moves by (sin 30°, cos 30°) in Matterport's plane.
    x, y, z, w = rotation_of_heading(math.pi / 6)
    vector, axis = np.array([0, 0, -1.0]), np.array([x, y, z])
    turned = vector + 2 * w * np.cross(axis, vector) + 2 * np.cross(axis, np.cross(axis, vector))
    np.testing.assert_allclose(to_matterport(turned), [0.5, HALF * math.sqrt(1.5), 0], atol=1e-12)


@pytest.mark.parametrize("rotation", [[0, 0, 0, 0], [0, 0, 0, 2], [0, math.nan, 0, 1]])
def test_a_quaternion_must_have_length_one(rotation):
    with pytest.raises(ValueError, match="must be a unit quaternion"):
        heading_of_rotation(rotation)


def test_straight_up_has_no_heading():
    with pytest.raises(ValueError, match="straight up or down"):
        heading_of_rotation([HALF, 0, 0, HALF])
