"""Portraits on the model's vertices: a rendered face is read back."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from mofaface.camera import Camera, extrinsics, project
from mofaface.face_models import load_face_model
from mofaface.face_models.open_model.portraits import (
    Sighting,
    fit_landmarks,
    mirrored_sighting,
    read_portraits,
    see,
    visible,
    warp,
)
from mofaface.rotation import rotation_matrix

# PyTorch's forward mode compiles its own formulas with a function that it deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def model():
    return load_face_model()


def test_landmarks_of_a_known_face_give_its_pose_and_its_landmarks_back(model):
    random = torch.Generator().manual_seed(0)
    alpha, delta = (0.7 * torch.randn(n, generator=random).double() for n in (80, 64))
    w, t = torch.tensor([0.1, -0.2, 0.05]).double(), torch.tensor([4.0, -6.0, 50.0]).double()
    marks = model.landmarks_68
    V = (
        model.mean_shape[marks]
        + model.shape_basis[marks] @ alpha.float()
        + model.expression_basis[marks] @ delta.float()
    ).double()
    R, place = extrinsics(rotation_matrix(w), t, Camera())
    seen = project(V @ R.mT + place, Camera())
    x = fit_landmarks(model, Camera(), seen.numpy(), np.ones(68))
    basis = torch.cat([model.shape_basis[marks], model.expression_basis[marks]], -1).double()
    R, place = extrinsics(rotation_matrix(x[:3]), x[3:6], Camera())
    again = project((model.mean_shape[marks].double() + basis @ x[6:]) @ R.mT + place, Camera())
    assert (again - seen)[17:].norm(dim=-1).mean() < 0.5
    # Turn and shape are told apart by the prior alone: a tenth of a radian is a good answer.
    assert (x[:3] - w).abs().max() < 0.1


def test_a_real_portrait_shows_skin_where_skin_is_and_nothing_behind(model):
    sighting = see("x", (EXAMPLES / "congress_C000127.jpg").read_bytes(), model)
    assert 0.2 < sighting.weight.mean() < 0.9
    cheek = model.regions["left_cheek"].numpy()
    red, green, blue = np.median(sighting.colour[cheek[sighting.weight[cheek] > 0.5]], axis=0)
    assert red > green > blue
    # Pupils are darker than the skin around them, lips redder than cheeks.
    lips = model.regions["lower_lip"].numpy()
    seen = sighting.colour[lips[sighting.weight[lips] > 0.5]]
    assert np.median(seen[:, 1] / seen[:, 0]) < green / red
    np.testing.assert_allclose(np.linalg.norm(sighting.normal, axis=1), 1, atol=1e-3)


def test_a_picture_without_a_face_gives_nothing(model):
    grey = io.BytesIO()
    from PIL import Image

    Image.new("RGB", (200, 200), (128, 128, 128)).save(grey, "PNG")
    assert see("grey", grey.getvalue(), model) is None


def test_the_warp_takes_points_to_their_goals_and_fades():
    random = np.random.default_rng(0)
    source = 60 + 25.0 * np.stack(np.meshgrid(range(5), range(5)), -1).reshape(-1, 2)
    goal = source + random.normal(0, 2, source.shape)
    np.testing.assert_allclose(source + warp(source, source, goal), goal, atol=0.6)
    assert np.abs(warp(np.array([[1000.0, 1000.0]]), source, goal)).max() < 1e-6


def test_what_lies_behind_is_not_visible():
    uv = np.array([[2.0, 2], [18, 2], [10, 18], [10, 8]])
    depth = np.array([100.0, 100, 100, 130])
    seen = visible(uv, depth, np.array([[0, 2, 1]]), 20) | visible(uv, depth, np.array([[0, 1, 2]]), 20)
    assert not seen[3] or visible(uv, depth - [0, 0, 0, 30], np.array([[0, 1, 2]]), 20)[3]
    hidden = [visible(uv, depth, np.array([face]), 20)[3] for face in ([0, 1, 2], [0, 2, 1])]
    assert not all(hidden)


def test_a_mirrored_sighting_is_the_face_in_a_mirror():
    mirror = np.array([1, 0, 2])
    one = Sighting("a", np.arange(9.0).reshape(3, 3), np.eye(3), np.array([0.1, 0.2, 0.3]))
    twice = mirrored_sighting(mirrored_sighting(one, mirror), mirror)
    np.testing.assert_array_equal(twice.normal, one.normal)
    np.testing.assert_array_equal(mirrored_sighting(one, mirror).weight, [0.2, 0.1, 0.3])
    np.testing.assert_array_equal(mirrored_sighting(one, mirror).normal[1], [-1, 0, 0])


def test_pictures_come_from_folders_and_archives_in_order(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("b.jpg", "a.png", "c.txt"):
        (folder / name).write_bytes(name.encode())
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(folder, "inside")
    assert [n for n, _ in read_portraits([folder])] == ["a.png", "b.jpg"]
    assert [(n, c) for n, c in read_portraits([tmp_path / "x.tar"])] == [
        ("inside/a.png", b"a.png"),
        ("inside/b.jpg", b"b.jpg"),
    ]
