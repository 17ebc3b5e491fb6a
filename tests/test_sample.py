"""Sheets of random faces."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from little_face import little_arrays, little_model
from PIL import Image

from mofaface.decoder import Decoder, illuminate
from mofaface.face_model import FaceModel
from mofaface.sample import (
    draw_face,
    draw_sheet,
    modes_sheet,
    plain_face,
    random_face,
    random_light,
    sample_sheet,
    with_mode,
)


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


def test_mean_sheet_shows_three_sides_painted_and_as_clay(tmp_path):
    sheet = read(draw_sheet(little_model().float(), "mean", tmp_path / "mean.png"))
    assert sheet.shape[0] > 2 * 240 and sheet.shape[1] == 3 * 240 + 4 * 6
    columns = [sheet[:, 6 + k * 246 : 246 + k * 246] for k in range(3)]
    assert all((a != b).any() for a, b in zip(columns, columns[1:] + columns[:1], strict=True))
    clay = sheet[-240:].astype(int)
    assert np.ptp(clay, axis=-1).max() == 0 and np.ptp(sheet[:-250].astype(int), axis=-1).max() > 10


def test_modes_sheet_has_two_rows_for_each_kind_that_has_modes(tmp_path):
    arrays = little_arrays()
    heights = []
    for expression in (4, 0):
        few = replace(
            arrays, expression_basis=arrays.expression_basis[..., :expression], units_expression=None
        )
        heights.append(read(draw_sheet(FaceModel(few), "modes", tmp_path / "modes.png")).shape[0])
    assert heights[0] > 6 * 240 and heights[1] == pytest.approx(heights[0] * 4 / 6, abs=6)


def test_one_coefficient_is_set_and_no_other():
    code = with_mode(plain_face(little_model()), "beta", 1, -3.0)
    assert code.beta.tolist() == [[0.0, -3.0, 0.0]] and not code.alpha.any() and not code.delta.any()


def test_faces_are_the_same_sheet_by_either_name(tmp_path):
    model = little_model().float()
    a = read(draw_sheet(model, "faces", tmp_path / "a.png", 3, 5))
    assert (a == read(sample_sheet(model, 3, 5, tmp_path / "b.png"))).all()


def test_sheet_of_a_model_without_modes_is_refused(tmp_path):
    a = little_arrays()
    none = {
        f"{kind}_basis": np.zeros((81, 3, 0), np.float32) for kind in ("shape", "expression", "reflectance")
    }
    with pytest.raises(ValueError, match="needs a model with modes"):
        modes_sheet(FaceModel(replace(a, units_expression=None, **none)), tmp_path / "modes.png")
