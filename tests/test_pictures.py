"""Pictures: what is drawn is where it belongs, and nothing else changes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from little_face import little_model, random_code
from PIL import Image

from mofaface.decoder import Decoder, illuminate
from mofaface.pictures import (
    clay_colours,
    contact_sheet,
    fitted,
    label,
    light_sphere,
    on_grey,
    overlay,
    save_picture,
    sheet_of_faces,
    surface,
)

QUAD = np.array([[0, 2, 1], [0, 3, 2]])  # counter-clockwise as seen, v goes down
RANDOM = np.random.default_rng(0)


def square(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], dtype=np.float64)


def noise(height: int, width: int) -> np.ndarray:
    return RANDOM.integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_an_overlay_changes_exactly_the_pixels_it_covers() -> None:
    photo = noise(60, 80)
    before = photo.copy()
    drawn = overlay(photo, square(10, 20, 30, 50), np.ones(4), QUAD, np.tile([1.0, 0.5, 0.0], (4, 1)))
    assert (drawn[20:50, 10:30] == (255, 128, 0)).all()
    drawn[20:50, 10:30] = photo[20:50, 10:30]
    assert (drawn == photo).all() and (photo == before).all()


def test_an_overlay_mixes_with_the_photo_where_it_covers_a_pixel_in_part() -> None:
    photo = np.full((6, 6, 3), 100, dtype=np.uint8)
    drawn = overlay(photo, square(1, 1, 4.5, 4.25), np.ones(4), QUAD, np.ones((4, 3)))
    assert drawn[2, 2, 0] == 255
    assert drawn[2, 4, 0] == round(100 * 0.5 + 255 * 0.5)
    assert drawn[4, 2, 0] == round(100 * 0.75 + 255 * 0.25)
    assert drawn[4, 5, 0] == drawn[5, 4, 0] == 100


def test_an_overlay_with_half_opacity_lies_halfway() -> None:
    photo = noise(20, 20)
    whole = overlay(photo, square(0, 0, 20, 20), np.ones(4), QUAD, np.zeros((4, 3)))
    half = overlay(photo, square(0, 0, 20, 20), np.ones(4), QUAD, np.zeros((4, 3)), opacity=0.5)
    assert (whole == 0).all()
    np.testing.assert_allclose(half, photo / 2.0, atol=0.51)


@pytest.mark.parametrize("place", [square(-50, -50, -10, -10), square(90, 5, 120, 30), square(*[np.nan] * 4)])
def test_a_face_outside_the_photo_leaves_it_as_it_is(place: np.ndarray) -> None:
    photo = noise(40, 80)
    assert (overlay(photo, place, np.ones(4), QUAD, np.ones((4, 3))) == photo).all()


def test_a_surface_stands_before_an_even_grey() -> None:
    picture = surface(square(2, 2, 5, 5), np.ones(4), QUAD, np.zeros((4, 3)), 8, 9, background=0.2)
    assert picture.shape == (8, 9, 3)
    assert (picture[2:5, 2:5] == 0).all() and (picture[0] == 51).all()


def test_clay_is_grey_and_brightest_towards_the_light_at_the_upper_left() -> None:
    normals = RANDOM.normal(size=(500, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    colours = clay_colours(normals)
    assert (colours[:, 0] == colours[:, 1]).all() and (colours[:, 1] == colours[:, 2]).all()
    assert colours.min() > 0.15 and colours.max() < 1.0
    x, y, z = normals[colours[:, 0].argmax()]
    assert x < 0 and y < 0 and z < 0


def test_a_light_sphere_shows_the_normals_of_a_ball() -> None:
    ball = light_sphere(lambda n: n * (0.5, 0.5, -0.5) + (0.5, 0.5, 0.5), 41, 1.0, supersample=5)
    np.testing.assert_allclose(ball[20, 20], [0.5, 0.5, 1.0, 1.0], atol=0.01)
    assert ball[20, 2, 0] < 0.1 < 0.9 < ball[20, 38, 0]  # x to the right
    assert ball[2, 20, 1] < 0.1 < 0.9 < ball[38, 20, 1]  # y down
    np.testing.assert_allclose(ball[..., 3].mean(), np.pi / 4, atol=2e-3)
    assert ball[0, 0].tolist() == [0.0, 0.0, 0.0, 0.0]


def test_a_light_sphere_under_ambient_light_is_even() -> None:
    gamma = torch.zeros(1, 9, 3, dtype=torch.float64)
    ball = light_sphere(lambda n: illuminate(torch.from_numpy(n)[None], gamma)[0].numpy(), 30, 0.5)
    np.testing.assert_allclose(ball[ball[..., 3] > 0][:, :3], 0.35, atol=1e-6)
    assert (on_grey(ball, 1.0)[0, 0] == 255).all()


def test_a_sheet_keeps_rows_and_columns() -> None:
    tiles = [[np.full((30, 30, 3), 40 * r + 10 * c, dtype=np.uint8) for c in range(3)] for r in range(2)]
    sheet = contact_sheet(tiles, ("a", "b", "c"), (("first",), ("second", "third")), tile=30, gap=4)
    assert sheet.shape == (4 + 26 + 2 * (26 + 34), 3 * 34 + 4, 3)
    for r in range(2):
        for c in range(3):
            top, left = 4 + 26 + 26 + r * 60, 4 + c * 34
            assert (sheet[top : top + 30, left : left + 30] == 40 * r + 10 * c).all()


def test_pictures_of_any_shape_are_fitted_whole_into_a_tile() -> None:
    wide = np.zeros((50, 200, 3), dtype=np.uint8)
    tile = fitted(wide, 100, 100)
    rows = np.nonzero((tile == 0).all((1, 2)))[0]
    assert tile.shape == (100, 100, 3) and (rows.min(), rows.max()) == (37, 61)
    assert fitted(np.zeros((300, 1, 3), dtype=np.uint8), 20, 20).shape == (20, 20, 3)
    with pytest.raises(ValueError, match="at least one picture"):
        contact_sheet([])


def test_a_label_fits_its_width_whatever_the_text() -> None:
    for text in ("", "nose", "a very long name of a photograph that cannot fit.jpg", "Ω ü …"):
        strip = label(text, 90)
        assert strip.shape == (26, 90, 3)
        assert (strip[:, 0] == 255).all()
    assert (label("nose", 90) < 128).any()


@pytest.mark.parametrize("with_gamma", [True, False])
def test_a_sheet_of_faces_shows_five_pictures_of_each(with_gamma: bool) -> None:
    model = little_model()
    code = random_code(model.layout, batch=3)
    face = Decoder(model)(code)
    images = torch.rand(3, 3, 240, 240, dtype=torch.float64)
    gamma = code.gamma if with_gamma else None
    sheet = sheet_of_faces(images, face, model, gamma, labels=["a", "b", "c"], tile=60)
    assert sheet.shape == (6 + 26 + 2 * (26 + 66), 10 * 66 + 6, 3)
    assert sheet[-60:, -300:].min() == 255  # the fourth place is empty


@pytest.mark.parametrize("name", ["a.png", "a.JPG", "a.jpeg"])
def test_a_saved_picture_is_read_back(tmp_path: Path, name: str) -> None:
    picture = np.full((20, 30, 3), (200, 100, 50), dtype=np.uint8)
    with Image.open(save_picture(tmp_path / name, picture)) as read:
        np.testing.assert_allclose(np.array(read).astype(int), picture, atol=3)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_picture_that_cannot_be_written_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(self: Image.Image, path: Path, *_: object, **__: object) -> None:
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(Image.Image, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_picture(tmp_path / "a.png", noise(4, 4))
    with pytest.raises(ValueError, match="change its ending"):
        save_picture(tmp_path / "a.gif", noise(4, 4))
    assert list(tmp_path.iterdir()) == []
