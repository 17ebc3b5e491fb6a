from dataclasses import replace

import plain_decoder as plain
import pytest
import torch
from little_face import LITTLE, little_model, random_code, smooth_image
from test_decoder import awkward_code, decode_plain, one
from torch.autograd import gradcheck

from mofaface.decoder import Decoder
from mofaface.losses import (
    USUAL_LIGHT,
    LossWeights,
    colour_distance,
    landmark,
    light_prior,
    photometric,
    regularisation,
    safe_norm,
    total,
)

WEIGHTS = LossWeights(land=1.0)


def detections(batch=2):
    random = torch.Generator().manual_seed(0)
    places = 60 + 120 * torch.rand(batch, 46, 2, generator=random, dtype=torch.float64)
    return places, torch.rand(batch, 46, generator=random, dtype=torch.float64)


def energy(decoder, image, places, confidence):
    """E_loss of packed codes."""

    def function(x):
        code = decoder.model.layout.unpack(x)
        face = decoder(code)
        land = landmark(face, decoder.model.landmarks_46, places, confidence, decoder.camera.size)
        return total(photometric(image, face), land, code, WEIGHTS)

    return function


def test_the_loss_equals_the_plain_twin_term_by_term(decoder, code):
    image = torch.cat([smooth_image(seed) for seed in (0, 1)])
    places, confidence = detections()
    face = decoder(code)
    photo = photometric(image, face)
    land = landmark(face, decoder.model.landmarks_46, places, confidence, 240)
    reg = regularisation(code, WEIGHTS.beta, WEIGHTS.delta)
    E = total(photo, land, code, WEIGHTS)
    for b in range(2):
        p, twin = one(code, b), decode_plain(decoder, code, b)
        vertices = decoder.model.landmarks_46.tolist()
        photo_b = plain.photometric(image[b].numpy(), twin)
        land_b = plain.landmark(twin, vertices, places[b].numpy(), confidence[b].numpy())
        reg_b = plain.regularisation(p["alpha"], p["beta"], p["delta"])
        truth = torch.tensor([photo_b, land_b, reg_b, plain.loss(photo_b, land_b, reg_b)])
        torch.testing.assert_close(torch.stack((photo[b], land[b], reg[b], E[b])), truth.double())


@pytest.mark.parametrize(
    "name", ["an ordinary code", "no rotation", "half a turn", "wholly behind the camera"]
)
def test_gradient_of_the_loss_is_exact(decoder, image, name):
    x = LITTLE.pack(awkward_code(name)).requires_grad_()
    # fast_mode would mix kinks of the sampled picture; steps of 1e-7 stay between pixel centres.
    assert gradcheck(energy(decoder, image, *detections(1)), (x,), eps=1e-7, atol=1e-5, rtol=1e-3)


def test_gradient_at_a_perfect_photograph_is_that_of_the_regulariser(decoder, image):
    code = random_code(LITTLE)
    x = LITTLE.pack(code).requires_grad_()
    face = decoder(LITTLE.unpack(x))
    seen = replace(face, colour=colour_from(image, face))
    E = total(photometric(image, seen), None, LITTLE.unpack(x), LossWeights())
    E.sum().backward()
    assert photometric(image, seen).item() == 0
    truth = (
        2
        * 2.9e-5
        * LITTLE.pack(
            replace(
                code,
                beta=1.7e-3 * code.beta,
                delta=0.8 * code.delta,
                rotation=0 * code.rotation,
                translation=0 * code.translation,
                gamma=0 * code.gamma,
            )
        )
    )
    torch.testing.assert_close(x.grad, truth)


def colour_from(image, face):
    from mofaface.sampling import sample_bilinear

    return sample_bilinear(image, face.uv_crop)


def test_without_a_front_facing_vertex_the_photometric_term_is_zero_with_zero_gradient(image):
    model = little_model()
    model.triangles.copy_(model.triangles[:, [0, 2, 1]].clone())  # inside out
    x = torch.zeros(1, LITTLE.size, dtype=torch.float64, requires_grad=True)
    face = Decoder(model)(LITTLE.unpack(x))
    centre = face.front & ((face.uv_crop - 120).norm(dim=-1) > 0)
    E = photometric(image, replace(face, front=torch.zeros_like(centre)))
    E.sum().backward()
    assert E.item() == 0 and not x.grad.any()


def test_back_facing_vertices_do_not_count(decoder, image):
    face = decoder(random_code(LITTLE))
    other = replace(face, colour=torch.where(face.front[..., None], face.colour, 7.0))
    torch.testing.assert_close(photometric(image, other), photometric(image, face))


def test_photometric_divides_by_all_vertices(decoder, image):
    face = decoder(LITTLE.zero(dtype=torch.float64))
    distance = colour_distance(image, face)
    truth = distance[face.front].sum() / 81
    torch.testing.assert_close(photometric(image, face)[0], truth)


def test_a_landmark_without_confidence_does_not_count(decoder, code):
    face = decoder(code)
    places, confidence = detections()
    confidence[:, 0] = 0
    wild = places.clone()
    wild[:, 0] = 1e6
    terms = [landmark(face, decoder.model.landmarks_46, p, confidence, 240) for p in (places, wild)]
    torch.testing.assert_close(*terms)


def test_landmarks_at_their_places_cost_nothing(decoder, code):
    face = decoder(code)
    vertices = decoder.model.landmarks_46
    assert not landmark(face, vertices, face.uv_crop[:, vertices], torch.ones(2, 46).double(), 240).any()


def test_white_light_of_the_usual_level_costs_nothing(code):
    gamma = code.gamma[..., :1].expand(-1, -1, 3).clone()
    gamma[:, 0] = USUAL_LIGHT
    torch.testing.assert_close(light_prior(replace(code, gamma=gamma)), torch.zeros(2).double())
    gamma[:, 0] += 0.5
    torch.testing.assert_close(light_prior(replace(code, gamma=gamma)), torch.full((2,), 0.25).double())
    assert (light_prior(code) > 0).all()


def test_the_weights_are_the_paper_s():
    w = LossWeights()
    assert (w.photo, w.reg, w.beta, w.delta, w.land, w.light, w.contour) == (
        1.92,
        2.9e-5,
        1.7e-3,
        0.8,
        0,
        0,
        0,
    )


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_is_no_weight_is_refused(value):
    with pytest.raises(ValueError, match="weight photo"):
        LossWeights(photo=value)


def test_a_missing_landmark_term_is_an_error_and_not_a_perfect_one(code):
    with pytest.raises(ValueError, match="no landmark term"):
        total(torch.zeros(2).double(), None, code, WEIGHTS)


def test_safe_norm_is_the_length_with_a_zero_subgradient_at_zero():
    v = torch.tensor([[0.0, 0, 0], [3, 0, 4]], dtype=torch.float64, requires_grad=True)
    safe_norm(v).sum().backward()
    torch.testing.assert_close(safe_norm(v), torch.tensor([0.0, 5.0]).double())
    torch.testing.assert_close(v.grad, torch.tensor([[0, 0, 0], [0.6, 0, 0.8]]).double())
