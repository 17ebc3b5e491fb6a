"""The convention under test: real orthonormal harmonics without the Condon–Shortley sign, times √(4π)."""

import numpy as np
import torch
from scipy.special import sph_harm_y
from torch.autograd import gradcheck

from mofaface.harmonics import harmonics, quadratic_form


def directions(n=200):
    v = np.random.default_rng(0).normal(size=(n, 3))
    v = np.concatenate((v, np.eye(3), -np.eye(3)))
    return v / np.linalg.norm(v, axis=1, keepdims=True)


def real_harmonic(l, m, n):
    polar, azimuth = np.arccos(n[:, 2]), np.arctan2(n[:, 1], n[:, 0])
    complex_value = sph_harm_y(l, abs(m), polar, azimuth) * (-1) ** m  # SciPy has the Condon–Shortley sign
    if m == 0:
        return complex_value.real
    return np.sqrt(2) * (complex_value.imag if m < 0 else complex_value.real)


def test_harmonics_equal_scipy_s_in_the_stated_order_and_scale():
    n = directions()
    order = [(l, m) for l in range(3) for m in range(-l, l + 1)]
    truth = np.sqrt(4 * np.pi) * np.stack([real_harmonic(l, m, n) for l, m in order], -1)
    np.testing.assert_allclose(harmonics(torch.tensor(n)).numpy(), truth, atol=1e-13)


def test_mean_product_of_two_harmonics_over_the_sphere_is_the_identity():
    z, w = np.polynomial.legendre.leggauss(6)
    azimuth = np.arange(12) * 2 * np.pi / 12
    r = np.sqrt(1 - z**2)
    n = np.stack(
        (r[:, None] * np.cos(azimuth), r[:, None] * np.sin(azimuth), np.broadcast_to(z[:, None], (6, 12))), -1
    )
    H = harmonics(torch.tensor(n.reshape(-1, 3))).numpy()
    weights = np.repeat(w / 2 / 12, 12)
    np.testing.assert_allclose(H.T @ (weights[:, None] * H), np.eye(9), atol=1e-14)


def test_gradient_of_harmonics_is_exact_also_for_a_zero_normal():
    n = torch.tensor(np.concatenate((directions(5), np.zeros((1, 3)))), requires_grad=True)
    assert gradcheck(harmonics, (n,))


def test_three_bands_are_one_quadratic_form():
    n, gamma = torch.tensor(directions(20)), torch.randn(9, 3, dtype=torch.float64)
    Q, l, m = quadratic_form(gamma)
    value = torch.einsum("pi,cij,pj->pc", n, Q, n) + n @ l.mT + m
    torch.testing.assert_close(value, harmonics(n) @ gamma)
