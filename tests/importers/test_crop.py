"""Cropping a head to the frontal face."""

import numpy as np
import pytest

from importers.foreign_head import CENTRE, foreign_head, open_model
from mofaface.face_models.importers.crop import crop, inside_outline, pieces, seen_from_the_front


def cropped(raw):
    model = open_model()
    return crop(
        raw.mean_shape, raw.triangles, raw.landmarks_68, model.mean_shape[model.landmarks_68].astype(float)
    )


@pytest.fixture(scope="module")
def raw():
    return foreign_head()


def test_crop_keeps_landmarks_the_front_and_the_eye_and_drops_the_back_and_what_is_inside(raw):
    part = cropped(raw)
    assert (part.place[raw.landmarks_68] >= 0).all()
    x = raw.mean_shape - CENTRE
    kept = part.place >= 0
    head, inner, eye = np.arange(6300), np.arange(6300, 6408), np.arange(6408, len(x))
    assert not kept[inner].any() and not kept[head][x[head, 2] < -80].any()
    assert kept[eye].any()
    assert (
        kept[head][(np.abs(x[head, 0]) < 40) & (np.abs(x[head, 1] - 20) < 50) & (x[head, 2] > 0)].mean()
        > 0.95
    )


def test_crop_is_a_subset_with_whole_triangles(raw):
    part = cropped(raw)
    new = part.operator @ raw.mean_shape
    np.testing.assert_array_equal(new[part.place[part.place >= 0]], raw.mean_shape[part.place >= 0])
    assert set(np.unique(part.triangles)) == set(range(len(new)))


def test_outline_does_not_depend_on_where_a_head_stands_or_how_large_it_is(raw):
    model = open_model()
    marks = model.mean_shape[model.landmarks_68].astype(float)
    inside = inside_outline(raw.mean_shape, raw.landmarks_68, marks)
    moved = inside_outline(1.3 * raw.mean_shape + [5.0, -7.0, 90.0], raw.landmarks_68, marks)
    assert (inside != moved).mean() < 1e-3 and 0.1 < inside.mean() < 0.6


def test_open_model_itself_loses_next_to_nothing_but_hidden_parts():
    model = open_model()
    marks = model.mean_shape[model.landmarks_68].astype(float)
    x = model.mean_shape.astype(float)
    part = crop(x, model.triangles.astype(np.int64), model.landmarks_68.astype(np.int64), marks)
    frontal = model.regions["frontal"]
    assert (part.place[frontal] >= 0).mean() > 0.99 and (part.place >= 0).mean() > 0.9


def test_wrong_landmarks_are_told(raw):
    marks = open_model().mean_shape[open_model().landmarks_68].astype(float)
    wrong = raw.landmarks_68.copy()
    wrong[3] = 6300 + 50  # on the ball inside the head
    part = crop(raw.mean_shape, raw.triangles, wrong, marks)
    assert part.place[wrong[3]] >= 0  # a landmark is never cropped while a triangle of it lies in the outline
    lone = np.concatenate((raw.mean_shape, raw.mean_shape[:1]))
    wrong[3] = len(lone) - 1  # a vertex of no triangle
    with pytest.raises(ValueError, match=r"keep all 68 landmarks and loses \[3\].*--no-crop"):
        crop(lone, raw.triangles, wrong, marks)


def test_pieces_are_numbered_by_connection_and_the_front_hides_the_back(raw):
    piece = pieces(raw.triangles, len(raw.mean_shape))
    assert [
        len(np.unique(piece[part])) for part in (slice(0, 6300), slice(6300, 6408), slice(6408, None))
    ] == [1, 1, 1]
    seen = seen_from_the_front(raw.mean_shape, raw.triangles)
    x = raw.mean_shape - CENTRE
    assert (
        not seen[6300:6408].any()
        and not seen[x[:, 2] < -140].any()
        and seen[:6300][x[:6300, 2] > 10].mean() > 0.9
    )
