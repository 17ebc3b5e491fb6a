import numpy as np
import pytest
import torch
import trimesh
from little_face import little_arrays
from torch.autograd import gradcheck

from mofaface.mesh import face_normals, normalise, vertex_normals

ARRAYS = little_arrays()
TRIANGLES = torch.tensor(ARRAYS.triangles)


def shell():
    return torch.tensor(ARRAYS.mean_shape, dtype=torch.float64)[None]


def test_vertex_normals_equal_trimesh_s_weighted_by_area():
    mesh = trimesh.Trimesh(ARRAYS.mean_shape, ARRAYS.triangles, process=False)
    truth = trimesh.geometry.weighted_vertex_normals(
        len(mesh.vertices), mesh.faces, mesh.face_normals, np.repeat(mesh.area_faces[:, None], 3, 1)
    )
    np.testing.assert_allclose(vertex_normals(shell(), TRIANGLES)[0].numpy(), truth, atol=1e-6)


def test_normals_of_a_sphere_point_along_its_radius():
    ball = trimesh.creation.icosphere(subdivisions=3)
    x = torch.tensor(np.asarray(ball.vertices))[None]
    n = vertex_normals(x, torch.tensor(np.asarray(ball.faces), dtype=torch.int64))
    assert (n * x).sum(-1).min() > 0.9995


def test_face_normals_are_twice_the_area_long():
    x = torch.tensor([[0.0, 0, 0], [2, 0, 0], [0, 3, 0]])
    torch.testing.assert_close(face_normals(x, torch.tensor([[0, 1, 2]])), torch.tensor([[0.0, 0, 6]]))


def test_normals_turn_with_the_mesh():
    from scipy.spatial.transform import Rotation

    R = torch.tensor(Rotation.from_rotvec([0.4, 1.0, -0.2]).as_matrix())
    torch.testing.assert_close(
        vertex_normals(shell() @ R.mT, TRIANGLES), vertex_normals(shell(), TRIANGLES) @ R.mT
    )


def test_gradient_of_vertex_normals_is_exact():
    x = shell()[:, :12].clone().requires_grad_()
    small = TRIANGLES[(TRIANGLES < 12).all(1)]
    assert gradcheck(lambda x: vertex_normals(x, small), (x,))


@pytest.mark.parametrize("collapse", ["one triangle", "everything"])
def test_vanished_triangles_give_zero_normals_and_no_nan(collapse):
    x = shell().clone()
    x[:, TRIANGLES[0] if collapse == "one triangle" else slice(None)] = x[:, :1].clone()
    x.requires_grad_()
    n = vertex_normals(x, TRIANGLES)
    n.sum().backward()
    assert n.isfinite().all() and x.grad.isfinite().all()
    if collapse == "everything":
        assert (n == 0).all() and (x.grad == 0).all()


def test_normalise_has_an_exact_gradient():
    v = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert gradcheck(normalise, (v,))


def test_normalise_keeps_tiny_float32_vectors_finite():
    v = torch.tensor([[1e-30, 0.0, 0.0], [1e-12, 1e-12, 0.0]], requires_grad=True)
    n = normalise(v)
    n.sum().backward()
    assert n.isfinite().all() and (n.norm(dim=-1) <= 1 + 1e-6).all() and v.grad.isfinite().all()
