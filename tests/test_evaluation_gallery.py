"""The sheet of varied faces: it shows different people, as many as are wanted, and nobody twice."""

import numpy as np
import pytest
import torch
from face_photos import EXAMPLES, needs_examples
from little_corpus import corpus_in_memory
from little_face import LITTLE, random_code
from little_photo import little_reconstructor
from PIL import Image

from mofaface.cli import main
from mofaface.evaluation.gallery import BETWEEN, TILE, beside, crops_of_corpus, gallery, traits, varied
from mofaface.face_models.container import read_face_model


def test_varied_faces_are_far_from_each_other():
    random = np.random.default_rng(0)
    corners = np.array([[0, 0], [9, 0], [0, 9], [9, 9]])
    crowd = np.concatenate([corner + 0.1 * random.normal(size=(20, 2)) for corner in corners]) - 4.5
    chosen = varied(crowd, 4)
    assert chosen == sorted(chosen) and {i // 20 for i in chosen} == {0, 1, 2, 3}


def test_nobody_is_shown_twice_even_where_all_are_alike():
    assert varied(np.zeros((5, 3)), 4) == sorted(set(varied(np.zeros((5, 3)), 4)))
    assert varied(np.zeros((5, 3)), 9) == [0, 1, 2, 3, 4]


def test_traits_are_standardised_and_outliers_no_farther_than_others():
    code = random_code(LITTLE, 0, 50)
    code.alpha[0, 0] = 1000.0
    found = traits(code)
    assert np.abs(found).max() <= 2 and found.std(0)[[0, 3]] == pytest.approx(1, abs=0.15)
    assert np.isfinite(traits(LITTLE.zero(3))).all()


@torch.no_grad()
def test_the_sheet_shows_each_photo_with_its_face(model_path):
    autoencoder = little_reconstructor(read_face_model(model_path)).autoencoder
    crops = crops_of_corpus(corpus_in_memory(7), 4)
    assert len(crops) == 7  # all of them to choose from
    sheet = gallery(autoencoder, crops, 4)
    # Two rows of three faces of five tiles.
    assert sheet.shape[1] > 15 * TILE + 2 * BETWEEN and 2 * TILE < sheet.shape[0] < 3 * TILE
    first = sheet[:, : sheet.shape[1] // 3]
    photo = np.asarray(first[40 : 40 + TILE // 2, 20 : 20 + TILE // 2], float)
    assert photo.std() > 5  # a crop, not white paper


def test_columns_of_different_height_are_level():
    tall, low = np.zeros((9, 4, 3), np.uint8), np.zeros((5, 2, 3), np.uint8)
    sheet = beside([tall, low])
    assert sheet.shape == (9, 6 + BETWEEN, 3)
    assert not sheet[:5, -2:].any() and (sheet[5:, -2:] == 255).all() and (sheet[:, 4:-2] == 255).all()


@needs_examples
def test_the_command_draws_photos_or_a_corpus(corpus_path, weights_path, model_path, tmp_path, capsys):
    network = ["--weights", str(weights_path), "--model", str(model_path)]
    photo, nothing = EXAMPLES / "congress_C001072.jpg", tmp_path / "nothing.png"
    Image.fromarray(np.full((60, 60, 3), 128, np.uint8)).save(nothing)
    for i, source in enumerate(([str(photo), str(nothing)], ["--corpus", str(corpus_path), "--n", "2"])):
        out = tmp_path / f"{i}.png"
        with pytest.raises(SystemExit) as caught:
            main(["sheet", *source, "--out", str(out), *network])
        assert caught.value.code == 0
        with Image.open(out) as sheet:
            assert sheet.width > (i + 1) * 5 * TILE and sheet.height > TILE
    for source, sentence in (
        ([], "give PHOTO... or --corpus DIR, one of these"),
        ([str(nothing)], "none of the photos shows a face"),
        ([str(photo), "--n", "0"], "--n is a number of faces, at least 1; got 0"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(["sheet", *source, *network])
        assert caught.value.code == 1 and sentence in " ".join(capsys.readouterr().err.split())
