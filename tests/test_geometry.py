"""Bending the cage first gives the faces that the plain way gives, with any pose."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from little_face import little_arrays, random_code

from mofaface.face_model import FaceModel, FaceModelArrays, SparseMatrix
from mofaface.geometry import Geometry
from mofaface.rotation import rotation_matrix


def with_cage(side: int = 9, row_sum: float = 1.0) -> FaceModelArrays:
    """The little model as the cage of one with twice as many vertices: its own and the middles of pairs."""
    arrays = little_arrays(side)
    count = side**2
    rows = np.concatenate((np.eye(count), (np.eye(count) + np.eye(count)[::-1]) / 2)) * row_sum
    row, column = np.nonzero(rows)
    starts = np.concatenate(([0], np.cumsum(np.bincount(row, minlength=len(rows)))))
    S = SparseMatrix(starts, column, rows[row, column].astype(np.float32), count)
    twice = {name: np.concatenate((getattr(arrays, name),) * 2) for name in ("mean_reflectance", "uv")}
    basis = np.concatenate((arrays.reflectance_basis,) * 2)
    return replace(arrays, subdivision=S, reflectance_basis=basis, mirror=None, regions={}, **twice)


@pytest.fixture(params=["cage", "cage whose rows do not sum to 1", "no cage"])
def model(request):
    arrays = {
        "cage": with_cage(),
        "cage whose rows do not sum to 1": with_cage(row_sum=0.5),
        "no cage": little_arrays(),
    }[request.param]
    return FaceModel(arrays).double()


def test_vertices_are_those_of_the_model(model):
    code = random_code(model.layout, batch=2)
    expected = model.geometry(code.alpha, code.delta)
    geometry = Geometry(model)
    for alpha, delta, vertices in zip(code.alpha, code.delta, expected, strict=True):
        torch.testing.assert_close(geometry(alpha, delta), vertices, atol=2e-4, rtol=0)


def test_posed_vertices_are_turned_and_moved(model):
    code = random_code(model.layout)
    R, t = (
        rotation_matrix(torch.tensor([0.3, -0.5, 0.2]).double()),
        torch.tensor([5.0, -7.0, 1000.0]).double(),
    )
    expected = model.geometry(code.alpha, code.delta)[0] @ R.mT + t
    found = Geometry(model).posed(code.alpha[0], code.delta[0], R, t)
    torch.testing.assert_close(found, expected, atol=3e-4, rtol=0)


def test_the_zero_code_is_the_mean_face(model):
    zero = model.layout.zero(dtype=torch.float64)
    torch.testing.assert_close(
        Geometry(model)(zero.alpha[0], zero.delta[0]), model.mean_shape, atol=2e-4, rtol=0
    )


def test_float32_stays_float32():
    model = FaceModel(with_cage())
    code = model.layout.zero()
    assert Geometry(model)(code.alpha[0], code.delta[0]).dtype == torch.float32
