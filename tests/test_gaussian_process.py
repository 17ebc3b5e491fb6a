"""Smooth fields: eigenfunctions that are known in closed form, and areas."""

import numpy as np
import pytest
from test_surface import grid

from mofaface.face_models.gaussian_process import cotangent_laplacian, smooth_basis
from mofaface.face_models.surface import Surface


@pytest.fixture(scope="module")
def square():
    """The unit square with 21² vertices."""
    flat = grid(21)
    return Surface(flat.positions * [1 / 20, 1 / 20, 0], flat.triangles)


def test_eigenvalues_of_a_square_are_those_of_cosines(square):
    # Neumann's: π² (i² + j²).
    expected = np.pi**2 * np.array([1, 1, 2, 4, 4, 5, 5, 8])
    np.testing.assert_allclose(smooth_basis(square, 8).eigenvalues, expected, rtol=0.02)


def test_fields_have_unit_mean_square_and_no_mean(square):
    basis = smooth_basis(square, 6)
    _, mass = cotangent_laplacian(square.positions, square.triangles)
    np.testing.assert_allclose((mass[:, None] * basis.fields**2).sum(axis=0) / mass.sum(), 1)
    np.testing.assert_allclose(mass @ basis.fields, 0, atol=1e-9)


def test_stiffness_of_a_linear_function_is_its_energy(square):
    stiffness, mass = cotangent_laplacian(square.positions, square.triangles)
    f = 3 * square.positions[:, 0] - square.positions[:, 1]
    assert mass.sum() == pytest.approx(1)
    assert f @ stiffness @ f == pytest.approx(10)


def test_every_field_is_even_or_odd_under_the_mirror():
    # Diagonals that mirror each other, as the model's mesh has them.
    flat, side = grid(9), 9
    number = np.arange(side**2).reshape(side, side)
    half = flat.triangles[(flat.positions[flat.triangles, 0] <= 4).all(axis=1)]
    mirror = number[:, ::-1].ravel()
    surface = Surface(flat.positions * [1, 1, 0], np.concatenate([half, mirror[half][:, ::-1]]))
    basis = smooth_basis(surface, 5, mirror)
    np.testing.assert_allclose(basis.fields[mirror], basis.parity * basis.fields, atol=1e-12)
    assert set(basis.parity.tolist()) == {-1, 1}


def test_two_pieces_have_a_field_that_tells_them_apart(square):
    n = len(square.positions)
    two = Surface(
        np.concatenate([square.positions, square.positions + [5, 0, 0]]),
        np.concatenate([square.triangles, square.triangles + n]),
    )
    basis = smooth_basis(two, 4)
    assert basis.eigenvalues[0] == pytest.approx(0, abs=1e-6)
    first = basis.fields[:, 0]
    np.testing.assert_allclose(np.abs(first), 1, atol=1e-6)
    assert np.sign(first[0]) == -np.sign(first[n])


def test_matern_spectrum_falls_with_the_eigenvalue_and_sums_to_one(square):
    basis = smooth_basis(square, 8)
    amplitude = basis.matern(wavelength=1.0)
    assert (np.diff(amplitude) <= 1e-12).all()
    assert (amplitude**2).sum() == pytest.approx(1)
