import math

import numpy as np
import torch
from little_face import smooth_image
from scipy.ndimage import map_coordinates
from torch.autograd import gradcheck

from mofaface.sampling import sample_bilinear


def test_sample_bilinear_equals_scipy_s_map_coordinates_inside_and_outside():
    random = np.random.default_rng(0)
    image = random.random((2, 3, 20, 31))
    uv = random.uniform(-10, 45, size=(2, 500, 2))
    ours = sample_bilinear(torch.tensor(image), torch.tensor(uv)).numpy()
    for b in range(2):
        for channel in range(3):
            places = [uv[b, :, 1] - 0.5, uv[b, :, 0] - 0.5]
            truth = map_coordinates(image[b, channel], places, order=1, mode="nearest")
            np.testing.assert_allclose(ours[b, :, channel], truth, atol=1e-12)


def test_the_centre_of_a_pixel_is_at_a_half():
    image = torch.arange(12.0).reshape(1, 1, 3, 4)
    uv = torch.tensor([[[0.5, 0.5], [3.5, 0.5], [1.5, 2.5], [1.0, 0.5]]])
    torch.testing.assert_close(sample_bilinear(image, uv)[0, :, 0], torch.tensor([0.0, 3.0, 9.0, 0.5]))


def test_gradients_of_sample_bilinear_are_exact_in_image_and_place():
    image = torch.rand(1, 3, 6, 7, dtype=torch.float64, requires_grad=True)
    uv = torch.tensor(
        [[[1.3, 2.2], [5.9, 3.1], [-4.0, 2.8], [3.3, 40.0]]], dtype=torch.float64, requires_grad=True
    )
    assert gradcheck(sample_bilinear, (image, uv))


def test_a_linear_picture_is_sampled_exactly():
    y, x = torch.meshgrid(torch.arange(50) + 0.5, torch.arange(50) + 0.5, indexing="ij")
    uv = 1 + 48 * torch.rand(1, 40, 2)
    torch.testing.assert_close(
        sample_bilinear((3 * x - 2 * y)[None, None], uv)[..., 0], 3 * uv[..., 0] - 2 * uv[..., 1]
    )


def test_places_infinitely_far_away_get_a_finite_colour():
    uv = torch.tensor([[[1e30, -1e30]]], dtype=torch.float64)
    assert sample_bilinear(smooth_image(), uv).isfinite().all()


def test_place_that_is_no_number_has_no_colour_and_harms_nothing():
    image = torch.rand(1, 3, 240, 240, requires_grad=True)
    uv = torch.tensor([[[20.0, 30.0], [math.nan, 5.0], [math.inf, 5.0]]]).repeat(1, 2000, 1).requires_grad_()
    colours = sample_bilinear(image, uv)
    assert colours[0, 1::3].isnan().all() and colours[0, 0::3].isfinite().all()
    colours.nansum().backward()
    assert image.grad.isfinite().all() and uv.grad[0, 0::3].isfinite().all()
    assert not uv.grad[0, 1::3].any()
