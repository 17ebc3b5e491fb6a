"""Random light is light: never negative, exposed as asked, and the same in any direction it is turned to."""

import numpy as np
import pytest
import torch
from scipy.integrate import dblquad

from mofaface.decoder import illuminate
from mofaface.synthetic import Light
from mofaface.synthetic.light import (
    exposed,
    gamma_of,
    never_negative,
    not_blown_out,
    random_light,
    source,
    total_of,
)


def shading(total: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """What the decoder makes of it."""
    gamma = torch.from_numpy(gamma_of(total))[None]
    return illuminate(torch.from_numpy(normals)[None], gamma)[0].numpy()


def some_normals(count: int = 3000) -> np.ndarray:
    n = np.random.default_rng(1).standard_normal((count, 3))
    return n / np.linalg.norm(n, axis=1, keepdims=True)


@pytest.mark.parametrize("seed", range(20))
def test_no_direction_gets_negative_light(seed):
    rng = np.random.default_rng(seed)
    how = Light(contrast=3.0)
    total = exposed(random_light(how, rng), how, rng)
    # The 400 directions in which it is held lie about 0.1 rad apart.
    assert shading(total, some_normals()).min() > 0.5 * how.darkest


def test_light_that_is_no_darker_than_allowed_is_left_as_it_is():
    total = np.zeros((9, 3))
    total[0], total[2] = 0.8, 0.2
    np.testing.assert_array_equal(never_negative(total, 0.04), total)


def test_exposure_is_the_mean_shading_of_what_is_seen():
    # Without spread, the cosine-weighted mean over the half ball turned to the camera is the exposure, by quadrature.
    how, rng = Light(exposure=0.7, exposure_spread=0.0, tint=0.0, darkest=0.0), np.random.default_rng(3)
    total = np.zeros((9, 3))
    total[0], total[2], total[6] = 0.6, -0.2, 0.05
    total = exposed(total, how, rng)

    def weighted(phi: float, theta: float, light: bool) -> float:
        n = np.array([[np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), -np.cos(theta)]])
        return (shading(total, n)[0, 1] if light else 1.0) * np.cos(theta) * np.sin(theta)

    sums = [
        dblquad(weighted, 0, np.pi / 2, 0, 2 * np.pi, args=(light,), epsabs=1e-4)[0]
        for light in (True, False)
    ]
    assert sums[0] / sums[1] == pytest.approx(how.exposure, abs=0.01)


@pytest.mark.parametrize(("azimuth", "elevation"), [(0.0, 0.0), (0.9, 0.4), (-2.0, -0.3)])
def test_a_hard_source_shades_by_the_cosine(azimuth, elevation):
    total = np.repeat(source(azimuth, elevation, 0.0)[:, None], 3, 1)
    level = np.cos(elevation)
    towards = np.array([level * np.sin(azimuth), -np.sin(elevation), -level * np.cos(azimuth)])
    n = some_normals()
    # A clamped cosine to second order, 1/4 + c/2 + 5 (3 c² − 1) / 32, is off by 3/32 where c = 0, and less elsewhere.
    np.testing.assert_allclose(shading(total, n)[:, 0], np.maximum(n @ towards, 0), atol=3 / 32 + 1e-6)


def test_a_larger_source_is_softer():
    small, large = (np.repeat(source(0.5, 0.2, size)[:, None], 3, 1) for size in (0.0, 0.7))
    assert np.ptp(shading(large, some_normals())) < 0.75 * np.ptp(shading(small, some_normals()))


def test_bright_skin_is_not_blown_out():
    total = np.zeros((9, 3))
    total[0] = 2.0
    skin = np.array([0.9, 0.7, 0.6])
    assert (not_blown_out(total, skin, 1.1)[0] * skin).max() == pytest.approx(1.1)
    np.testing.assert_array_equal(not_blown_out(total, skin / 4, 1.1), total)


def test_gamma_and_total_are_inverse():
    total = np.random.default_rng(0).random((9, 3))
    np.testing.assert_allclose(total_of(gamma_of(total)), total, atol=1e-12)
