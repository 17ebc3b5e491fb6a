"""The weights and the face model that ship, on the example photographs, against the independent landmark detector."""

from pathlib import Path

import numpy as np
import pytest

import mofaface
from mofaface.crop import crops_to_tensor, cut_crop
from mofaface.encoders.inverted_residuals import dead_channels
from mofaface.evaluation.points import five_points
from mofaface.facemesh import find_mesh
from mofaface.photo import read_photo

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.jpg"))


@pytest.fixture(scope="module")
def reconstruct():
    return mofaface.load()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_reconstructed_where_its_landmarks_are(reconstruct, path):
    photo = read_photo(path)
    [face] = reconstruct(photo)
    mesh = find_mesh(photo, reconstruct.detect(photo).faces[0])
    found, expected = five_points(face.landmarks_68), five_points(mesh.landmarks_68)
    eye_distance = np.linalg.norm(expected[1] - expected[0])
    assert np.linalg.norm(found - expected, axis=1).mean() / eye_distance < 0.10
    assert face.photometric_error < 0.2 and face.quality > 0.2


def test_shipped_files_are_small():
    assets = Path(mofaface.__file__).parent / "assets"
    sizes = {path.name: path.stat().st_size for path in assets.iterdir()}
    assert max(sizes.values()) <= 16e6 and sum(sizes.values()) <= 40e6


def test_shipped_model_has_the_modes_and_size_of_the_paper():
    model = mofaface.load_face_model()
    assert (model.layout.shape, model.layout.expression, model.layout.reflectance) == (80, 64, 80)
    assert model.layout.size == 257 and 20_000 <= model.vertices <= 30_000


def test_the_depth_of_the_shipped_network_is_alive(reconstruct):
    photos = [read_photo(path) for path in EXAMPLES]
    crops = crops_to_tensor([cut_crop(photo, reconstruct.detect(photo).faces[0]) for photo in photos])
    dead = dead_channels(reconstruct.autoencoder.encoder.backbone, crops)
    assert max(share for name, share in dead.items() if int(name.split(".")[0]) >= 14) < 0.5


def test_steps_after_the_network_come_closer_to_the_photo_and_leave_the_landmarks(reconstruct):
    refined = mofaface.load(refine=3)
    photo = read_photo(EXAMPLES[0])
    [alone], [more] = reconstruct(photo), refined(photo)
    assert more.photometric_error < 0.9 * alone.photometric_error
    moved = np.linalg.norm(more.landmarks_68 - alone.landmarks_68, axis=1).mean()
    assert moved < 2 * alone.crop.photo_from_crop.scale
    assert more.note == "refined by 3 steps" and alone.note == ""


def test_the_network_without_landmarks_sees_the_same_faces(reconstruct):
    other = mofaface.load("unsupervised")
    for path in EXAMPLES:
        [one], [two] = reconstruct(path), other(path)
        apart = np.linalg.norm(one.landmarks_68 - two.landmarks_68, axis=1).mean()
        assert apart < 6 * one.crop.photo_from_crop.scale  # pixels of the crop
        assert two.photometric_error < 0.2


def test_the_accurate_network_comes_closer_to_the_photos_and_keeps_the_landmarks(reconstruct):
    other = mofaface.load("accurate")
    assert other.refiner is not None and other.refiner.steps == 12
    errors = []
    for path in EXAMPLES:
        [one], [two] = reconstruct(path), other(path)
        apart = np.linalg.norm(one.landmarks_68 - two.landmarks_68, axis=1).mean()
        assert apart < 4 * one.crop.photo_from_crop.scale  # pixels of the crop
        errors.append((one.photometric_error, two.photometric_error))
    before, after = np.array(errors).mean(0)
    assert after < 0.85 * before
