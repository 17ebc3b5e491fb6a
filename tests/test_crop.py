"""The crop lies exactly where its transform says, without aliasing, also beyond the border."""

import cv2
import numpy as np
import pytest
import torch

from mofaface.crop import CROP_SIZE, Box, Crop, crop_square, crops_to_tensor, cut_crop, sample_square
from mofaface.photo import Photo
from mofaface.similarity import Similarity


def blob_photo(centre: tuple[float, float], sigma: float, size: tuple[int, int] = (400, 500)) -> np.ndarray:
    """A bright Gaussian whose centre is at these photo pixels (pixel centres at +0.5)."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    value = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * sigma**2))
    return np.repeat(np.rint(255 * value)[..., None], 3, axis=2).astype(np.uint8)


def centre_of_mass(pixels: np.ndarray) -> np.ndarray:
    weight = pixels[..., 0].astype(float)
    y, x = np.mgrid[: weight.shape[0], : weight.shape[1]] + 0.5
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


@pytest.mark.parametrize("scale", [0.31, 0.5, 1.0, 1.3, 1.9, 2.0, 2.7, 3.0])
@pytest.mark.parametrize("angle", [0.0, 0.4])
def test_a_known_point_lands_where_photo_from_crop_says(scale: float, angle: float):
    wanted = np.array([120.3, 99.8])
    turn = Similarity(scale, angle, 0.0, 0.0)
    tx, ty = np.array([251.7, 203.2]) - turn.apply(wanted)
    pixels = sample_square(
        blob_photo((251.7, 203.2), 6 * scale), Similarity(scale, angle, float(tx), float(ty))
    )
    np.testing.assert_allclose(centre_of_mass(pixels), wanted, atol=0.05)


def test_at_scale_one_and_whole_pixels_the_crop_is_a_slice():
    pixels = np.random.default_rng(0).integers(0, 256, (300, 320, 3), dtype=np.uint8)
    np.testing.assert_array_equal(
        sample_square(pixels, Similarity(1.0, 0.0, 20.0, 30.0)), pixels[30:270, 20:260]
    )


@pytest.mark.parametrize("scale", [2, 4])
def test_a_whole_scale_is_the_area_average(scale: int):
    noise = np.random.default_rng(0).integers(0, 256, (240 * scale, 240 * scale, 3), dtype=np.uint8)
    pixels = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2.0 * scale), None, 0, 255, cv2.NORM_MINMAX)
    expected = cv2.resize(pixels, (240, 240), interpolation=cv2.INTER_AREA).astype(int)
    off = np.abs(sample_square(pixels, Similarity(float(scale), 0.0, 0.0, 0.0)) - expected)[1:-1, 1:-1]
    assert off.max() <= 6 and off.mean() < 1


def test_fine_stripes_become_grey_instead_of_moire():
    stripes = np.zeros((1000, 1000, 3), np.uint8)
    stripes[:, ::2] = 255
    pixels = sample_square(stripes, Similarity(3.7, 0.0, 40.0, 40.0)).astype(int)
    assert np.abs(pixels - 127).max() <= 48  # point samples would reach 127


def test_beyond_the_border_the_edge_is_repeated():
    pixels = np.zeros((100, 100, 3), np.uint8)
    pixels[:, 50:] = 200
    for scale in (0.7, 1.0, 2.5):
        crop = sample_square(pixels, Similarity(scale, 0.0, 50 - 120 * scale, 50 - 120 * scale))
        assert (crop[:, 0] == 0).all() and (crop[:, -1] == 200).all()


def test_boxes_with_and_without_points_are_centred_alike_for_the_average_face():
    points = np.array([[-31.0, -20], [31, -20], [0, 15], [-26, 45], [26, 45]]) + 200
    detected = Box(128, 110, 137, 181, 0.9, points)
    assert np.abs(np.array(crop_square(detected)[:2]) - [200, 225]).max() < 15
    x, y, side = crop_square(Box(100, 100, 100, 100))
    assert (x, side) == (150.0, pytest.approx(145.7)) and y == pytest.approx(168.6)


def test_the_crop_scales_with_the_photo():
    points = np.array([[60.0, 60], [100, 62], [80, 85], [65, 105], [96, 104]])
    small = crop_square(Box(45, 30, 70, 100, 1.0, points))
    large = crop_square(Box(90, 60, 140, 200, 1.0, points * 2))
    np.testing.assert_allclose(np.array(large), 2 * np.array(small), rtol=1e-12)


def test_cut_crop_covers_the_square_of_the_box():
    crop = cut_crop(Photo(np.zeros((300, 300, 3), np.uint8)), Box(100, 100, 80, 80))
    x, y, side = crop_square(Box(100, 100, 80, 80))
    corners = crop.photo_from_crop.apply(np.array([[0.0, 0.0], [CROP_SIZE, CROP_SIZE]]))
    np.testing.assert_allclose(corners, [[x - side / 2, y - side / 2], [x + side / 2, y + side / 2]])
    assert crop.photo_from_crop.angle == 0.0


def test_crops_become_one_batch_in_zero_to_one():
    crop = Crop(np.full((240, 240, 3), (255, 0, 51), np.uint8), Similarity(1.0, 0.0, 0.0, 0.0))
    batch = crops_to_tensor([crop, crop])
    assert batch.shape == (2, 3, 240, 240)
    torch.testing.assert_close(batch[1, :, 5, 5], torch.tensor([1.0, 0.0, 0.2]))
