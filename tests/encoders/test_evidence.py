"""What a picture says of a code at points of a face, against the decoder, finite differences and NumPy's least squares."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from little_face import LITTLE, little_arrays, little_model, random_code, smooth_image

from mofaface.camera import extrinsics
from mofaface.code import Code
from mofaface.decoder import Decoder
from mofaface.encoders import evidence
from mofaface.encoders.evidence import FacePoints, choose_points, readings_of
from mofaface.face_model import FaceModel
from mofaface.face_models import load_face_model
from mofaface.pictures import overlay
from mofaface.rotation import rotation_matrix

COUNT = 75


@pytest.fixture(scope="module")
def decoder():
    return Decoder(little_model(side=17))


@pytest.fixture(scope="module")
def points(decoder):
    return FacePoints(decoder, COUNT)


def moved(code: Code, step: Code) -> Code:
    return Code(**{name: value + getattr(step, name) for name, value in vars(code).items()})


def test_points_begin_with_the_landmarks_and_spread(decoder):
    model = decoder.model
    chosen = choose_points(model, COUNT)
    assert torch.equal(chosen[:68, 0], model.landmarks_68)
    assert model.frontal[chosen[68:, 0]].all()
    # No vertex that was not chosen is farther from all points than the last one was from those before it.
    x = model.mean_shape
    coarse = torch.from_numpy(model.arrays.coarse_vertices)
    last = torch.cdist(x[chosen[-1:, 0]], x[chosen[:-1, 0]]).min()
    assert torch.cdist(x[coarse], x[chosen[:, 0]]).amin(1).max() <= last + 1e-9


def test_fewer_points_than_landmarks_are_refused_and_no_more_are_found_than_there_are(decoder):
    with pytest.raises(ValueError, match="68 points or more, got 67"):
        choose_points(decoder.model, 67)
    every = choose_points(decoder.model, 1000)
    assert sorted(every[:, 0].tolist()) == sorted(decoder.model.arrays.coarse_vertices.tolist())


def changed_model(**changes):
    return FaceModel(replace(little_arrays(), **changes))


def test_points_lie_in_the_compared_part_but_for_landmarks():
    top = np.arange(40, 81)
    chosen = choose_points(changed_model(regions={"frontal": top}), 80)
    outside = set(chosen[:, 0].tolist()) - set(top.tolist())
    assert outside and outside <= set(little_arrays().landmarks_68.tolist())


def test_a_landmark_may_stand_for_two_points():
    landmarks = little_arrays().landmarks_68.copy()
    landmarks[1] = landmarks[0]
    model = changed_model(landmarks_68=landmarks)
    assert torch.equal(choose_points(model, 70)[:68, 0], model.landmarks_68)


def test_vertices_without_triangles_are_no_points():
    arrays = little_arrays()
    loose = next(v for v in range(81) if v not in arrays.landmarks_68)
    without = arrays.triangles[(arrays.triangles != loose).all(1)]
    assert loose not in choose_points(changed_model(triangles=without), 1000)[:, 0]
    mark = int(arrays.landmarks_68[3])
    without = arrays.triangles[(arrays.triangles != mark).all(1)]
    with pytest.raises(ValueError, match=rf"vertices \[{mark}\] of face model 'little' have none"):
        choose_points(changed_model(triangles=without), 70)


def test_rings_end_where_three_triangles_share_an_edge():
    rings = evidence._rings(torch.tensor([[0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 4, 2]]), [0, 1])
    assert rings == {0: [1, 2, 3, 4], 1: [2, 0, 1]}


def test_every_point_of_the_open_model_has_its_normal_from_its_neighbours():
    model = load_face_model("open")
    chosen = choose_points(model, 512)
    decoded = Decoder(model)(model.layout.zero(1))
    a, b, c = (decoded.x_camera[0][chosen[:, k]] for k in (1, 2, 3))
    n = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=-1)
    cosine = (n * decoded.n_camera[0][chosen[:, 0]]).sum(-1)
    assert cosine.median() > 0.995 and (cosine > 0.5).float().mean() > 0.98
    assert len(set(chosen[:, 0].tolist())) == 512


def test_places_and_what_is_missing_are_the_decoders(decoder, points):
    code, image = random_code(LITTLE, 1, 3, 0.5), smooth_image(1).expand(3, -1, -1, -1)
    face, own = decoder(code), points.points[:, 0]
    found = points(readings_of(image), code)
    torch.testing.assert_close(found.places, face.uv_crop[:, own])
    assert (found.residual.abs().amax((0, 2)) > 0).float().mean() > 0.8
    # A picture of one colour: what is missing is that colour without the light, minus the reflectance.
    grey = points(readings_of(torch.full((3, 3, 240, 240), 0.5).double()), code)
    shown = grey.residual.abs().amax(-1) > 0
    expected = 0.5 / face.shading[:, own] - face.reflectance[:, own]
    assert (grey.residual - expected)[shown].abs().median() < 0.01


def test_slopes_are_those_of_a_ramp():
    y, x = torch.meshgrid(torch.arange(240.0), torch.arange(240.0), indexing="ij")
    ramp = (0.001 * x + 0.002 * y).expand(1, 3, -1, -1)
    readings = readings_of(ramp)
    assert readings.shape == (1, 9, 120, 120)
    torch.testing.assert_close(readings[0, 3:6, 5:-5, 5:-5], torch.full((3, 110, 110), 0.001))
    torch.testing.assert_close(readings[0, 6:9, 5:-5, 5:-5], torch.full((3, 110, 110), 0.002))


def test_the_derivative_of_the_places_is_that_of_finite_differences(decoder, points):
    code = random_code(LITTLE, 2, 2, 0.5)
    own = points.points[:, 0]
    face = decoder(code)
    V = decoder.model.geometry(code.alpha, code.delta)[:, own]
    R, _ = extrinsics(rotation_matrix(code.rotation), code.translation, decoder.camera)
    J = points._projected(face.x_camera[:, own], face.uv_crop[:, own])
    D = points._derivative(J, R, points._turns(code), V)
    columns = [("alpha", k, 1.0) for k in range(5)] + [("delta", k, 1.0) for k in range(4)]
    columns += [("rotation", k, evidence.TURN) for k in range(3)]
    columns += [("translation", k, evidence.MOVE) for k in range(3)]
    for column, (part, k, unit) in enumerate(columns):
        change = torch.zeros_like(getattr(code, part))
        change[:, k] = 1e-4
        after, before = (
            decoder(replace(code, **{part: getattr(code, part) + way * change})).uv_crop[:, own]
            for way in (1, -1)
        )
        torch.testing.assert_close(D[..., column], (after - before) / 2e-4 * unit, rtol=1e-3, atol=1e-3)


def test_the_step_of_the_geometry_is_that_of_damped_least_squares(decoder, points):
    code = random_code(LITTLE, 4, 1, 0.5)
    own, face = points.points[:, 0], decoder(code)
    x, places = face.x_camera[:, own], face.uv_crop[:, own]
    V = decoder.model.geometry(code.alpha, code.delta)[:, own]
    R, _ = extrinsics(rotation_matrix(code.rotation), code.translation, decoder.camera)
    random = torch.Generator().manual_seed(0)
    slopes = torch.randn(1, COUNT, 3, 2, generator=random, dtype=torch.float64) / 100
    missing = torch.randn(1, COUNT, 3, generator=random, dtype=torch.float64) / 10
    weight = torch.rand(1, COUNT, generator=random, dtype=torch.float64)
    found = points._geometry(code, R, V, x, places, slopes, missing, weight)
    D = points._derivative(points._projected(x, places), R, points._turns(code), V)[0].numpy()
    root = np.sqrt(weight[0].numpy())
    A = np.einsum("pci,pik,p->pck", slopes[0].numpy(), D, root).reshape(3 * COUNT, -1)
    held = np.sqrt(evidence.HELD) / 240 * D[:68].reshape(136, -1)
    damped = np.sqrt(points.damping.numpy())
    pulled = -damped * np.concatenate((code.alpha[0], code.delta[0], np.zeros(6)))
    right = np.concatenate(((missing[0].numpy() * root[:, None]).ravel(), np.zeros(136), pulled))
    expected = np.linalg.lstsq(np.concatenate((A, held, np.diag(damped))), right, rcond=None)[0]
    expected[9:12] *= evidence.TURN
    expected[12:] *= evidence.MOVE
    np.testing.assert_allclose(torch.cat(found, -1)[0].numpy(), expected, rtol=1e-5, atol=1e-8)


def test_the_step_of_the_light_is_that_of_least_squares():
    random = torch.Generator().manual_seed(0)
    n = torch.nn.functional.normalize(torch.randn(1, 50, 3, generator=random, dtype=torch.float64), dim=-1)
    reflectance, missing = torch.rand(2, 1, 50, 3, generator=random, dtype=torch.float64)
    weight = torch.rand(1, 50, generator=random, dtype=torch.float64)
    found = evidence._light(n, reflectance, missing, weight)[0]
    H = evidence.harmonics(n)[0].numpy()
    for channel in range(3):
        root = np.sqrt(weight[0].numpy())[:, None]
        rows = np.concatenate(
            (H * reflectance[0, :, channel].numpy()[:, None] * root, np.sqrt(evidence.LIGHT) * np.eye(9))
        )
        right = np.concatenate((-missing[0, :, channel].numpy() * root[:, 0], np.zeros(9)))
        expected = np.linalg.lstsq(rows, right, rcond=None)[0]
        np.testing.assert_allclose(found[:, channel].numpy(), expected, atol=1e-9)


def test_the_step_of_the_reflectance_is_that_of_damped_least_squares(decoder, points):
    code, image = random_code(LITTLE, 3, 1, 0.5), smooth_image(3)
    found = points(readings_of(image), code)
    basis = decoder.model.reflectance_basis[points.points[:, 0]].flatten(0, 1).numpy()
    ridge = evidence.RIDGE * (basis**2).sum() / basis.shape[1]
    rows = np.concatenate((basis, np.sqrt(ridge) * np.eye(basis.shape[1])))
    right = np.concatenate((found.residual[0].flatten().numpy(), np.zeros(basis.shape[1])))
    np.testing.assert_allclose(
        found.step.beta[0].numpy(), np.linalg.lstsq(rows, right, rcond=None)[0], atol=1e-9
    )


@pytest.fixture(scope="module")
def shown():
    """Random faces of the open model: decoder, points, codes and what is read of the pictures that show just them."""
    model = load_face_model("open")
    decoder = Decoder(model)
    random = torch.Generator().manual_seed(0)
    code = model.layout.unpack(0.7 * torch.randn(3, model.layout.size, generator=random))
    code = replace(
        code, rotation=0.1 * code.rotation, translation=3 * code.translation, gamma=0.03 * code.gamma
    )
    face = decoder(code)
    grey = np.full((240, 240, 3), 128, np.uint8)
    places, depth, colours = (
        face.uv_crop.numpy(),
        face.x_camera[..., 2].numpy(),
        face.colour.clamp(0, 1).numpy(),
    )
    pictures = [overlay(grey, places[i], depth[i], model.triangles.numpy(), colours[i]) for i in range(3)]
    readings = readings_of(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255)
    return decoder, FacePoints(decoder, 512), code, readings


def test_steps_of_reflectance_and_light_bring_back_the_colours(shown):
    decoder, points, truth, readings = shown
    random = torch.Generator().manual_seed(1)
    for part, size, shows in (("beta", 0.7, "reflectance"), ("gamma", 0.03, "shading")):
        value = getattr(truth, part)
        wrong = replace(truth, **{part: value + size * torch.randn(value.shape, generator=random)})
        step = getattr(points(readings, wrong).step, part)
        mended = replace(wrong, **{part: getattr(wrong, part) + step})
        colours = [getattr(decoder(code), shows)[:, decoder.model.frontal] for code in (truth, wrong, mended)]
        before, after = ((c - colours[0]).norm() for c in colours[1:])
        assert after < 0.6 * before, part


def test_a_step_of_geometry_moves_the_face_to_where_it_is_seen(shown):
    decoder, points, truth, readings = shown
    wrong = replace(
        truth,
        rotation=truth.rotation + 0.03,
        translation=truth.translation + truth.translation.new_tensor([1, -1, 5]),
    )
    step = points(readings, wrong).step
    still = replace(step, beta=0 * step.beta, gamma=0 * step.gamma)
    places = [decoder(code).uv_crop for code in (truth, wrong, moved(wrong, still))]
    before, after = ((p - places[0]).norm(dim=-1).mean() for p in places[1:])
    # Not all the way at once: landmarks are held.
    assert before > 1.5 and after < 0.85 * before


@pytest.mark.parametrize("z", [-940.0, -1000.0, -5000.0])
def test_wild_answers_give_finite_steps(shown, z):
    _, points, code, readings = shown
    wild = replace(code, translation=torch.tensor([[0.0, 0.0, z]] * 3), alpha=30 * code.alpha)
    for values in vars(points(readings, wild).step).values():
        assert values.isfinite().all() and values.abs().max() < 1e5


def test_equations_that_cannot_be_solved_give_no_step():
    matrix = torch.stack((torch.eye(3), -torch.eye(3)))
    found = evidence._solve(matrix, torch.ones(2, 3, 1))
    torch.testing.assert_close(found[:, :, 0], torch.tensor([[1.0] * 3, [0.0] * 3]))


def test_saved_points_are_read_again(decoder, points):
    other = FacePoints(decoder, COUNT)
    state = {"points": choose_points(decoder.model, COUNT).flip(0)}
    other.load_state_dict(state)
    basis = decoder.model.reflectance_basis[points.points[:, 0].flip(0)]
    assert torch.equal(other.reflectance_basis, basis.flatten(0, 1).mT)
    assert set(other.state_dict()) == {"points"}
    with pytest.raises(ValueError, match="vertex 289, and face model 'little' has 289; give"):
        FacePoints(decoder, COUNT).load_state_dict({"points": torch.full((COUNT, 4), 289)})
