"""Assembled derivatives against automatic differentiation of the decoder, which has tests of its own."""

import pytest
import torch
from little_face import LITTLE, little_model, random_code
from test_decoder import AWKWARD, awkward_code

from mofaface.code import CodeLayout
from mofaface.decoder import Decoder
from mofaface.jacobian import Linearisation, NormalDerivative, visible_rows
from mofaface.mesh import face_normals
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
    face = decoder(code)
    point, one = linear.at(code), torch.ones(len(rows), dtype=torch.float64)
    return linear.places(point, face, rows), linear.residuals(image, point, face, rows, one)


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
    M = normals.rows(normals.edges_at(x), rows, torch.zeros_like(one), one)
    torch.testing.assert_close((M @ basis.flatten(0, 1)).unflatten(0, (-1, 3)), truth)


def test_visible_rows_are_the_front_facing_vertices(decoder):
    face = decoder(LITTLE.zero(dtype=torch.float64))
    assert visible_rows(face.front).tolist() == [i for i in range(81) if face.front[0, i]]
