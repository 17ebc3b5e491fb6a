import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch.autograd import gradcheck

from mofaface.rotation import cross_matrix, rotation_matrix


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 9.9e-4, 1.01e-3, 0.3, 2.0, math.pi - 1e-6, math.pi, 6.0])
def test_rotation_matrix_equals_scipy_at_every_angle(angle):
    axes = np.random.default_rng(0).normal(size=(20, 3))
    w = angle * axes / np.linalg.norm(axes, axis=1, keepdims=True)
    truth = Rotation.from_rotvec(w).as_matrix()
    np.testing.assert_allclose(rotation_matrix(torch.tensor(w)).numpy(), truth, atol=1e-14)


def test_rotation_matrix_is_a_rotation_in_float32():
    R = rotation_matrix(torch.randn(100, 3, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(R @ R.mT, torch.eye(3).expand(100, 3, 3), atol=2e-6, rtol=0)
    torch.testing.assert_close(torch.linalg.det(R), torch.ones(100), atol=2e-6, rtol=0)


@pytest.mark.parametrize(
    "w", [(0.0, 0.0, 0.0), (1e-5, 0, -1e-5), (9e-4, 5e-4, 0), (0.3, -1.0, 0.2), (0, math.pi - 1e-4, 0)]
)
def test_gradient_and_second_gradient_of_rotation_matrix_are_exact(w):
    w = torch.tensor(w, dtype=torch.float64, requires_grad=True)
    assert gradcheck(rotation_matrix, (w,))
    assert torch.autograd.gradgradcheck(rotation_matrix, (w,), atol=1e-4)


def test_rotation_at_zero_turns_by_the_cross_product():
    v = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    jacobian = torch.func.jacrev(lambda w: rotation_matrix(w) @ v)(torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(jacobian, -cross_matrix(v))


def test_cross_matrix_is_the_cross_product():
    a, b = torch.randn(2, 7, 3, dtype=torch.float64)
    torch.testing.assert_close((cross_matrix(a) @ b[..., None])[..., 0], torch.linalg.cross(a, b))
