"""Assembled derivatives against automatic differentiation of the decoder, which has tests of its own."""

import pytest
import torch
from little_face import LITTLE, little_arrays, little_model, random_code
from test_decoder import AWKWARD, awkward_code
from test_kernels import on_a_cage

from mofaface.code import CodeLayout
from mofaface.decoder import Decoder
from mofaface.face_model import FaceModel
from mofaface.jacobian import Linearisation, NormalDerivative, read_image, right_jacobian
from mofaface.mesh import face_normals
from mofaface.rotation import cross_matrix, rotation_matrix
from mofaface.sampling import sample_bilinear


def differentiated(decoder, image, code, rows):
    """Places and residuals of the rows, differentiated by torch through everything."""

    def function(x):
        face = decoder(decoder.model.layout.unpack(x[None]))
        residual = sample_bilinear(image, face.uv_crop) - face.colour
        return face.uv_crop[0, rows], residual[0, rows]

    return torch.func.jacrev(function)(decoder.model.layout.pack(code)[0])


def assembled(decoder, image, code, rows):
    linear = Linearisation(decoder)
    pose = linear.pose(code)
    point = linear.at(code, pose)
    patch = linear.patch(point, rows)
    one = torch.ones(len(rows), dtype=torch.float64)
    residuals = linear.residuals(point, patch, linear.colours(image, point, patch), one)
    return linear.places(code, pose, rows)[1], residuals


@pytest.mark.parametrize("name", AWKWARD)
def test_assembled_jacobian_equals_automatic_differentiation(decoder, image, name):
    code, rows = awkward_code(name), torch.arange(81)
    for ours, truth in zip(
        assembled(decoder, image, code, rows), differentiated(decoder, image, code, rows), strict=True
    ):
        torch.testing.assert_close(ours, truth)


def test_assembled_jacobian_is_exact_for_the_default_layout_and_some_rows(image):
    decoder = Decoder(little_model(layout=CodeLayout()))
    code, rows = random_code(CodeLayout(), size=0.5), torch.tensor([0, 40, 41, 80])
    for ours, truth in zip(
        assembled(decoder, image, code, rows), differentiated(decoder, image, code, rows), strict=True
    ):
        torch.testing.assert_close(ours, truth)


def test_normal_derivative_is_the_derivative_of_the_area_vectors():
    model = little_model()
    x, basis = model.mean_shape, model.shape_basis

    def area_vectors(alpha):
        f = face_normals(x + basis @ alpha, model.triangles)
        return sum(torch.zeros_like(x).index_add(0, model.triangles[:, k], f) for k in range(3))

    truth = torch.func.jacrev(area_vectors)(torch.zeros(5).double())
    rows, one = torch.arange(81), torch.eye(3).double().expand(81, 3, 3)
    normals = NormalDerivative(model.triangles, 81)
    edges = normals.edges(x[normals.ring], rows)
    ours = normals.product(basis.flatten(0, 1), edges, rows, torch.zeros_like(one), one)
    torch.testing.assert_close(ours, truth)


@pytest.mark.parametrize("name", AWKWARD)
def test_a_patch_is_what_the_decoder_gives(decoder, image, name):
    code, rows, linear = awkward_code(name), torch.tensor([80, 3, 41]), Linearisation(decoder)
    face, pose = decoder(code), linear.pose(code)
    point = linear.at(code, pose)
    patch = linear.patch(point, rows)
    colours = linear.colours(image, point, patch)
    torch.testing.assert_close(patch.x_camera, face.x_camera[0, rows])
    torch.testing.assert_close(colours.n @ pose.R.mT, face.n_camera[0, rows])
    torch.testing.assert_close(colours.reflectance * colours.shading, face.colour[0, rows])
    residual = sample_bilinear(image, face.uv_crop) - face.colour
    torch.testing.assert_close(colours.residual, residual[0, rows])
    torch.testing.assert_close(linear.places(code, pose, rows)[0], face.uv_crop[0, rows])
    assert torch.equal(patch.front, face.front[0, rows])
    assert torch.equal(patch.visible().rows, rows[face.front[0, rows]])


def test_a_vanished_triangle_gives_no_nan(decoder, image):
    model = decoder.model
    model.mean_shape[:], model.shape_basis[:], model.expression_basis[:] = 1.0, 0.0, 0.0
    for derivative in assembled(decoder, image, random_code(LITTLE), torch.arange(81)):
        assert derivative.isfinite().all()


def test_geometry_on_the_cage_is_that_of_the_model():
    model = FaceModel(on_a_cage(little_arrays(17)))
    code = model.layout.unpack(torch.randn(1, model.layout.size, generator=torch.Generator().manual_seed(0)))
    truth = model.geometry(code.alpha, code.delta)[0]
    linear = Linearisation(Decoder(model))
    point = linear.at(code, linear.pose(code))
    torch.testing.assert_close(point.x, truth, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 0.005, 0.02, 1.0, 3.1])
def test_right_jacobian_is_the_derivative_of_the_turn_that_follows(angle):
    w = angle * torch.tensor([0.6, 0.0, -0.8]).double()
    turns = torch.einsum("ba,bck->kac", rotation_matrix(w), torch.func.jacrev(rotation_matrix)(w))
    torch.testing.assert_close(turns, cross_matrix(right_jacobian(w).mT))


def test_reading_an_image_is_sampling_it_with_its_derivative(image):
    inner = 260 * torch.rand(50, 2, generator=torch.Generator().manual_seed(0)).double() - 10
    edge = torch.tensor([[0.5, 7.0], [239.5, 7.0], [7.0, 239.5], [1e9, -1e9]]).double()
    uv = torch.cat((inner, edge)).requires_grad_()
    truth = sample_bilinear(image, uv[None])[0]
    gradient = torch.stack(
        [torch.autograd.grad(c.sum(), uv, retain_graph=True)[0] for c in truth.unbind(1)], 1
    )
    colour, derivative = read_image(image, uv.detach())
    torch.testing.assert_close(colour, truth.detach())
    torch.testing.assert_close(derivative, gradient)
    colour, derivative = read_image(image, torch.tensor([[torch.nan, 3.0]]).double())
    assert colour.isnan().all() and not derivative.any()
