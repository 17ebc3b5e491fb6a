"""Pictures show what their codes say, and their landmarks and visibility are true."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mofaface.decoder import Decoder
from mofaface.harmonics import harmonics
from mofaface.losses import colour_distance
from mofaface.rasterizer_plain import rasterize_plain
from mofaface.synthetic import MASK_ONLY, PERFECT, Degradation, Pose, Surroundings, SynthConfig
from mofaface.synthetic.render import Renderer
from mofaface.synthetic.scene import HIDDEN, NEAR_LANDMARK, Scenes, person_of

PLAIN = SynthConfig(Path("unused"), degradation=PERFECT, surroundings=MASK_ONLY, supersample=3)


@pytest.fixture(scope="module")
def plain() -> Scenes:
    return Scenes(PLAIN)


@pytest.fixture(scope="module")
def full() -> Scenes:
    return Scenes(SynthConfig(Path("unused")))


def test_the_picture_at_its_own_code_has_hardly_any_photometric_error(plain):
    errors = []
    for i in range(5):
        made = plain(i)
        face = Decoder(plain.model, made.camera)(made.code)
        image = torch.from_numpy(made.pixels).permute(2, 0, 1)[None].float() / 255
        # A picture cannot be brighter than white.
        face = replace(face, colour=face.colour.clamp(0, 1))
        seen = face.front[0] & torch.from_numpy(made.visible)
        distance = colour_distance(image, face)[0, seen]
        # Pixels on lids and outlines mix the face with what lies behind it; most vertices are not there.
        assert distance.median().item() < 0.006
        errors.append(distance.mean().item())
    assert np.mean(errors) < 0.02, errors


def test_samples_have_the_colours_of_the_equations(plain):
    # In float64, with the plain rasteriser: equation 4 at interpolated normals.
    made = plain(0)
    face = Decoder(plain.model, made.camera)(made.code)
    coarse = 60
    uv, depth = face.uv_crop[0].numpy() * coarse / 240, face.x_camera[0, :, 2].numpy()
    fragments = rasterize_plain(
        torch.from_numpy(uv), torch.from_numpy(depth), plain.model.triangles, coarse, coarse
    )
    render = Renderer(plain.model, 1)
    camera = replace(made.camera, size=coarse, focal=made.camera.focal * coarse / 240)
    picture = render(made.code, camera, render.decode(made.code, camera), [])
    seen = fragments.triangle_index.numpy() >= 0
    corners = plain.render.triangles[fragments.triangle_index.numpy()[seen]]
    mix = fragments.barycentric.double().numpy()[seen][:, None]
    n = (mix @ face.n_camera[0].double().numpy()[corners])[:, 0]
    n /= np.linalg.norm(n, axis=1, keepdims=True)
    light = made.code.gamma[0].double().numpy().copy()
    light[0] += 0.7
    expected = (mix @ face.reflectance[0].double().numpy()[corners])[:, 0] * (
        harmonics(torch.from_numpy(n)).numpy() @ light
    )
    np.testing.assert_array_equal(picture.alpha[..., 0] > 0, seen)
    np.testing.assert_allclose(picture.colour[seen], expected.clip(0, 1), atol=2e-4)


def test_landmarks_are_the_decoders_projection(full):
    for i in range(4):
        made = full(i)
        face = Decoder(full.model, made.camera)(made.code)
        expected = face.uv_crop[0, full.model.landmarks_68].detach().numpy()
        np.testing.assert_allclose(made.landmarks, expected, atol=1e-5)


def test_landmarks_of_the_averted_side_are_hidden_and_those_of_the_near_side_seen():
    pose = Pose(wide_rate=0.0, yaw=0.0, pitch=0.0, roll=0.0)
    scenes = Scenes(replace(PLAIN, pose=pose))
    code, camera = scenes.codes(0, 0)
    zero = scenes.model.layout.zero()
    turned = replace(zero, rotation=torch.tensor([[0.0, 1.0, 0.0]]))
    face = scenes.render.decode(turned, camera)
    visible = (scenes.render(turned, camera, face, []).behind <= NEAR_LANDMARK)[
        scenes.model.landmarks_68.numpy()
    ]
    # A head turned by 57 degrees shows one outer brow and jaw, and hides the others.
    sides = visible[17:20].all(), visible[24:27].all()
    assert sorted(sides) == [False, True]
    far = slice(0, 4) if not sides[0] else slice(13, 17)
    assert not visible[far].any()
    frontal = scenes.render(zero, camera, scenes.render.decode(zero, camera), []).behind <= NEAR_LANDMARK
    assert frontal[scenes.model.landmarks_68.numpy()[17:68]].mean() > 0.95


def test_what_is_covered_is_worth_less(plain):
    covered = Scenes(replace(PLAIN, surroundings=replace(MASK_ONLY, occluder_rate=1.0)))
    losses = []
    for i in range(6):
        free, made = plain(i), covered(i)
        np.testing.assert_array_equal(made.landmarks, free.landmarks)
        changed = np.abs(made.pixels.astype(int) - free.pixels).max(-1)
        assert made.seen <= free.seen
        # Vertices of which nothing says that they are covered have the same pixel as before, up to the soft edge.
        u, v = made.landmarks[made.confidence == 1].astype(int).T
        assert (changed[v, u] < 140).all()
        hidden = (free.confidence == 1) & (made.confidence < 1)
        assert (made.confidence[hidden] == HIDDEN).all()
        losses.append(free.seen - made.seen)
    assert max(losses) > 0.02


def test_a_landmark_outside_the_crop_has_no_confidence():
    scenes = Scenes(replace(PLAIN, pose=Pose(shift=60.0)))
    outside = 0
    for i in range(5):
        made = scenes(i)
        out = ((made.landmarks < 0) | (made.landmarks > 240)).any(1)
        assert (made.confidence[out] == 0).all() and (made.confidence[~out] > 0).all()
        outside += int(out.sum())
    assert outside > 5


def test_surroundings_and_degradations_leave_the_code_as_it_is(plain, full):
    for i in range(3):
        for name, part in vars(plain(i).code).items():
            assert torch.equal(part, getattr(full(i).code, name))


def test_a_degraded_picture_is_in_the_same_place():
    # Every degradation at once: the picture is changed, and matches best where it was.
    rates = {n: 1.0 for n in ("resolution_rate", "blur_rate", "motion_rate", "noise_rate", "jpeg_rate")}
    scenes = Scenes(replace(PLAIN, degradation=Degradation(**rates, edge_rate=0.0)))
    clean = Scenes(PLAIN)
    for i in range(3):
        a, b = (s(i).pixels[40:200, 40:200].astype(float).mean(-1) for s in (clean, scenes))
        assert np.abs(a - b).mean() > 0.5
        shifts = {
            (dy, dx): np.abs(a[6:-6, 6:-6] - np.roll(b, (dy, dx), (0, 1))[6:-6, 6:-6]).mean()
            for dy in range(-2, 3)
            for dx in range(-2, 3)
        }
        assert min(shifts, key=lambda k: shifts[k]) == (0, 0), shifts


def test_a_photos_edge_is_repeated_outside_the_landmarks():
    scenes = Scenes(replace(PLAIN, degradation=replace(PERFECT, edge_rate=1.0)))
    repeated = 0
    for i in range(6):
        made = scenes(i)
        repeated += int(
            (made.pixels[:, 0] == made.pixels[:, 1]).all() or (made.pixels[-1] == made.pixels[-2]).all()
        )
        assert (made.confidence > 0).sum() >= 60
    assert repeated >= 3


def test_a_head_fills_the_mouth_and_surrounds_the_face(plain):
    # With nothing behind, an open mouth of the bare model would be a hole.
    code, camera = plain.codes(0, 0)
    opening = plain.codes.units.U[plain.codes.units.names.index("jawOpen")]
    code = replace(plain.model.layout.zero(), delta=torch.from_numpy(opening).float()[None])
    face = plain.render.decode(code, camera)
    rng = np.random.default_rng(0)
    filled = plain.render(code, camera, face, plain._pieces(code, camera, face, rng))
    bare = plain.render(code, camera, face, [])
    lips = face.uv_crop[0, plain.model.landmarks_68[60:68]].numpy()
    u, v = lips.mean(0).astype(int)
    assert bare.alpha[v, u, 0] == 0 and filled.alpha[v, u, 0] == 1
    everything = Scenes(replace(PLAIN, surroundings=Surroundings(head_rate=1.0, hair_rate=1.0)))
    headed = everything.render(code, camera, face, everything._pieces(code, camera, face, rng))
    assert headed.alpha.mean() > 1.3 * bare.alpha.mean()


def test_nobody_is_in_both_splits():
    config = replace(PLAIN, n=23, validation=10, people=replace(PLAIN.people, photos_per_person=3))
    people = [person_of(config, i) for i in range(23)]
    assert set(people[:13]).isdisjoint(people[13:])
    assert np.bincount(people).max() == 3
