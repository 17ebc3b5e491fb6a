"""CIELAB and the typology angle, against OpenCV and known colours."""

import cv2
import numpy as np
import pytest

from mofaface.skin_tone import BOUNDS, GROUPS, ita, lab


def test_lab_is_that_of_opencv():
    rgb = np.random.default_rng(0).random((50, 3))
    expected = cv2.cvtColor(rgb[None].astype(np.float32), cv2.COLOR_RGB2LAB)[0]
    np.testing.assert_allclose(lab(rgb), expected, atol=0.3)


def test_grey_has_no_colour():
    np.testing.assert_allclose(lab(np.array([1.0, 1, 1])), [100, 0, 0], atol=1e-9)
    np.testing.assert_allclose(lab(np.array([0.0, 0, 0])), [0, 0, 0], atol=1e-9)


@pytest.mark.parametrize(
    ("rgb", "group"),
    [
        ((240, 203, 186), "very light"),
        ((201, 152, 120), "intermediate"),
        ((158, 110, 82), "brown"),
        ((72, 48, 38), "dark"),
    ],
)
def test_skin_colours_fall_into_their_groups(rgb, group):
    assert GROUPS[int(np.digitize(ita(np.array(rgb) / 255), BOUNDS))] == group
