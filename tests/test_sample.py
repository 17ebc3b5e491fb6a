"""Sheets of random faces."""

import numpy as np
import pytest
import torch
from little_face import little_model
from PIL import Image

from mofaface.decoder import Decoder, illuminate
from mofaface.sample import draw_face, random_face, random_light, sample_sheet


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def read(path):
    with Image.open(path) as picture:
        return np.array(picture)


def test_same_seed_draws_the_same_sheet_and_another_seed_another(tmp_path):
    model = little_model()
    sheets = [read(sample_sheet(model, 7, seed, tmp_path / f"{i}.png")) for i, seed in enumerate((0, 0, 1))]
    assert (sheets[0] == sheets[1]).all() and (sheets[0] != sheets[2]).any()
    assert sheets[0].shape[0] > 2 * 240 and sheets[0].shape[1] > 6 * 240


def test_faces_of_a_sheet_differ_and_are_in_the_middle():
    random, decoder = generator(), Decoder(little_model().float())
    a, b = (draw_face(decoder, random_face(decoder.model, random)) for _ in range(2))
    assert a.shape == (240, 240, 3) and (a != b).mean() > 0.2
    rows, columns = np.nonzero((a != a[0, 0]).any(-1))
    assert abs(rows.mean() - 120) < 25 and abs(columns.mean() - 120) < 25


def test_coefficients_are_standard_normal_with_half_of_the_expression():
    random, model = generator(), little_model()
    faces = [random_face(model, random) for _ in range(400)]
    for name, spread in (("alpha", 1.0), ("beta", 1.0), ("delta", 0.5)):
        values = torch.cat([getattr(face, name) for face in faces])
        assert values.std().item() == pytest.approx(spread, rel=0.1) and abs(values.mean()) < 0.1
    assert max(face.rotation.norm().item() for face in faces) < 0.5


def test_light_is_nearly_white_comes_from_the_front_and_is_never_dark_there():
    random = generator()
    towards_us, away = torch.tensor([[[0.0, 0.0, -1.0]]]), torch.tensor([[[0.0, 0.0, 1.0]]])
    for _ in range(50):
        gamma = random_light(random)
        front = illuminate(towards_us, gamma)[0, 0]
        assert 0.5 < front.mean() < 1.5 and (front / front.mean() - 1).abs().max() < 0.1
        assert (illuminate(away, gamma) < front).all()


def test_sheet_without_faces_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one face, got 0"):
        sample_sheet(little_model(), 0, 0, tmp_path / "sheet.png")
