from dataclasses import fields, replace

import numpy as np
import plain_decoder as plain
import pytest
import torch
from little_face import LITTLE, little_model, random_code
from torch.autograd import gradcheck

from mofaface.camera import Camera
from mofaface.code import Code
from mofaface.decoder import AMBIENT, Decoder, front_facing, illuminate
from mofaface.harmonics import harmonics


def one(code: Code, b: int) -> dict[str, np.ndarray]:
    return {f.name: getattr(code, f.name)[b].numpy() for f in fields(Code)}


def decode_plain(decoder, code, b):
    p = one(code, b)
    return plain.decode(
        decoder.model.arrays, p["alpha"], p["delta"], p["beta"], p["rotation"], p["translation"], p["gamma"]
    )


def flat(decoder, names=("uv_crop", "colour")):
    """The decoder as a function of packed codes: places and colours, (batch, vertices, 5)."""

    def function(x):
        face = decoder(decoder.model.layout.unpack(x))
        return torch.cat([getattr(face, name) for name in names], -1)

    return function


AWKWARD = {
    "an ordinary code": {},
    "no rotation": {"rotation": (0.0, 0.0, 0.0)},
    "the smallest rotation": {"rotation": (1e-8, -1e-8, 0.0)},
    "half a turn": {"rotation": (0.0, np.pi - 1e-6, 0.0)},
    "seen from behind": {"rotation": (0.0, 3.0, 0.3)},
    "partly behind the camera": {"translation": (3.0, 5.0, -1010.0)},
    "wholly behind the camera": {"translation": (3.0, 5.0, -2500.0)},
}


def awkward_code(name, layout=LITTLE, seed=3):
    code = random_code(layout, seed=seed)
    parts = {part: torch.tensor([value], dtype=torch.float64) for part, value in AWKWARD[name].items()}
    return replace(code, **parts)


@pytest.mark.parametrize("name", AWKWARD)
def test_decoder_equals_the_plain_twin(decoder, name):
    code = awkward_code(name)
    face, truth = decoder(code), decode_plain(decoder, code, 0)
    for ours, theirs in (
        (face.uv_crop, truth.u),
        (face.colour, truth.c),
        (face.n_camera, truth.n),
        (face.x_camera, truth.x),
    ):
        np.testing.assert_allclose(ours[0].numpy(), theirs, rtol=1e-9, atol=1e-9)
    assert torch.nonzero(face.front[0])[:, 0].tolist() == truth.visible


def test_decoder_equals_the_plain_twin_for_the_default_layout(full_decoder):
    code = random_code(full_decoder.model.layout, seed=5, size=0.4)
    face, truth = full_decoder(code), decode_plain(full_decoder, code, 0)
    np.testing.assert_allclose(face.uv_crop[0].numpy(), truth.u, atol=1e-9)
    np.testing.assert_allclose(face.colour[0].numpy(), truth.c, atol=1e-9)


@pytest.mark.parametrize("name", AWKWARD)
def test_gradient_of_the_decoder_is_exact(decoder, name):
    x = LITTLE.pack(awkward_code(name)).requires_grad_()
    assert gradcheck(
        flat(decoder, ("uv_crop", "colour", "n_camera")), (x,), atol=1e-4, rtol=1e-4, fast_mode=True
    )


def test_gradient_is_finite_with_a_degenerate_triangle(decoder):
    model = little_model()
    corner = model.triangles[0]
    model.mean_shape[corner] = model.mean_shape[corner[:1]].clone()
    for basis in (model.shape_basis, model.expression_basis):
        basis[corner] = basis[corner[:1]].clone()
    x = LITTLE.pack(random_code(LITTLE)).requires_grad_()
    out = flat(Decoder(model))(x)
    out.square().mean().backward()
    assert out.isfinite().all() and x.grad.isfinite().all()


def test_the_jacobian_of_every_vertex_equals_central_differences(full_decoder):
    """B_i of equation 6: 5 × 257 for the default layout, at an ordinary code."""
    layout = full_decoder.model.layout
    x = layout.pack(random_code(layout, seed=7, size=0.4))
    function = flat(full_decoder)
    B = torch.func.jacrev(lambda x: function(x[None])[0])(x[0])
    assert B.shape == (289, 5, 257)
    h = 1e-5
    steps = h * torch.eye(257, dtype=torch.float64)
    ahead, behind = function(x + steps), function(x - steps)
    torch.testing.assert_close(B, ((ahead - behind) / (2 * h)).permute(1, 2, 0), atol=1e-6, rtol=1e-6)


# Forward mode loads rules that torch still compiles with its own deprecated torch.jit.script.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_reverse_and_forward_mode_agree_on_one_vertex(decoder, code):
    x = LITTLE.pack(code)[0]
    vertex = 40
    function = lambda x: flat(decoder)(x[None])[0, vertex]  # noqa: E731
    torch.testing.assert_close(torch.func.jacrev(function)(x), torch.func.jacfwd(function)(x))


def test_the_zero_code_is_the_average_face_centred_under_ambient_light(decoder):
    face = decoder(LITTLE.zero(dtype=torch.float64))
    model = decoder.model
    torch.testing.assert_close(face.colour[0], AMBIENT * model.mean_reflectance)
    F = torch.tensor([1.0, -1.0, -1.0]).double()
    torch.testing.assert_close(face.x_camera[0], model.mean_shape * F + torch.tensor([0, 0, 1000.0]).double())
    assert (face.uv_crop.mean(1) - 120).abs().max() < 10


def test_normals_are_perpendicular_to_the_surface_after_any_turn(decoder, code):
    face = decoder(code)
    v = face.x_camera
    i = decoder.model.triangles
    centre = 40
    around = i[(i == centre).any(1)]
    f = torch.linalg.cross(
        v[:, around[:, 1]] - v[:, around[:, 0]], v[:, around[:, 2]] - v[:, around[:, 0]]
    ).sum(1)
    torch.testing.assert_close(face.n_camera[:, centre], f / f.norm(dim=-1, keepdim=True))


def test_codes_of_a_batch_do_not_touch_each_other(decoder, code):
    both = decoder(code)
    for b in range(2):
        alone = decoder(Code(**{f.name: getattr(code, f.name)[b : b + 1] for f in fields(Code)}))
        torch.testing.assert_close(alone.uv_crop[0], both.uv_crop[b])
        torch.testing.assert_close(alone.colour[0], both.colour[b])


def test_front_facing_is_the_near_side_of_a_sphere():
    n = torch.randn(1, 500, 3).double()
    n = n / n.norm(dim=-1, keepdim=True)
    x = 100 * n + torch.tensor([0, 0, 1000.0]).double()
    # The horizon of a ball of radius r at distance d is where the cosine to the camera is r / d.
    torch.testing.assert_close(front_facing(x, n), -n[..., 2] > 0.1)


def test_a_vertex_without_a_normal_is_not_front_facing():
    assert not front_facing(torch.tensor([[[0.0, 0, 1000]]]), torch.zeros(1, 1, 3)).any()


def test_illuminate_is_linear_in_gamma_with_the_ambient_offset():
    n = torch.nn.functional.normalize(torch.randn(1, 10, 3), dim=-1)
    gamma = torch.randn(1, 9, 3)
    torch.testing.assert_close(illuminate(n, gamma), AMBIENT + harmonics(n) @ gamma)


def test_decoder_works_in_float32_and_with_another_camera(code):
    decoder = Decoder(little_model().float(), Camera(focal=600.0, size=128, distance=700.0))
    face = decoder(LITTLE.unpack(LITTLE.pack(code).float()))
    assert face.uv_crop.dtype == torch.float32
    h = face.x_camera.double() @ decoder.camera.K().mT
    torch.testing.assert_close(face.uv_crop, (h[..., :2] / h[..., 2:]).float(), atol=1e-3, rtol=1e-5)
