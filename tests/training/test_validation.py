"""How a network does on held-out people."""

from dataclasses import replace

import pytest
import torch
from little_corpus import corpus_in_memory
from little_face import LITTLE, random_code
from little_photo import little_reconstructor

from mofaface.decoder import Decoder
from mofaface.evaluation.on_corpus import evaluate_corpus
from mofaface.face_models.container import read_face_model
from mofaface.metrics import landmark_error, photometric_error
from mofaface.training.batches import make_batch
from mofaface.training.config import NO_AUGMENTATION
from mofaface.training.validation import pictures, spread, validate


@pytest.fixture(scope="module")
def held_out():
    return corpus_in_memory(7)


def test_photos_are_spread_over_the_whole_split(held_out):
    assert spread(held_out, 100) == list(range(7))
    assert spread(held_out, 3) == [0, 3, 6]
    assert spread(held_out, 1) == [0]


def test_errors_are_means_over_the_photos(held_out, model_path):
    model = read_face_model(model_path)
    autoencoder = little_reconstructor(model).autoencoder
    batch = make_batch(held_out, list(range(7)), NO_AUGMENTATION, [0])
    _, face = autoencoder(batch.image)
    found = validate(autoencoder, held_out, 100)
    pixels = landmark_error(face, model.landmarks_46, batch.landmarks).mean()
    assert found["landmark_px"] == pytest.approx(float(pixels), rel=1e-5)
    assert found["photometric"] == pytest.approx(float(photometric_error(batch.image, face).mean()), rel=1e-5)


def test_right_code_has_next_to_no_error(model_path):
    corpus = corpus_in_memory(1)
    decoder = Decoder(read_face_model(model_path))
    code = random_code(LITTLE, 0)
    face = decoder(type(code)(**{name: part.float() for name, part in vars(code).items()}))
    batch = make_batch(corpus, [0], NO_AUGMENTATION, [0])
    assert float(landmark_error(face, decoder.model.landmarks_46, batch.landmarks)) < 0.2
    assert float(photometric_error(batch.image, face)) < 0.05


@torch.no_grad()
def test_sheet_shows_every_photo(held_out, model_path):
    sheet = pictures(little_reconstructor(read_face_model(model_path)).autoencoder, held_out)
    assert sheet.shape[0] > 4 * 240 and sheet.shape[1] > 5 * 240


def with_codes(corpus, digest):
    codes = LITTLE.pack(random_code(LITTLE, 0, len(corpus))).float().numpy()
    return replace(corpus, codes=codes, code_model={"name": "little", "version": "0", "digest": digest})


def test_rendered_faces_are_measured_against_their_codes_as_an_evaluation_does(held_out, model_path):
    model = read_face_model(model_path)
    rendered = with_codes(held_out, model.digest)
    autoencoder = little_reconstructor(model).autoencoder
    found = validate(autoencoder, rendered, 100)
    figures = evaluate_corpus(autoencoder, rendered).figures
    for name in ("geometry_mm", "geometry_turned_mm", "reflectance_rms", "light_rms", "rotation_deg"):
        assert found[name] == pytest.approx(figures[name]["mean"], rel=1e-5) and found[name] > 0
    # Landmarks of rendered faces are exact.
    assert found["truth_landmark_px"] == pytest.approx(found["landmark_px"], rel=1e-4)
    some = validate(autoencoder, rendered, 3)["geometry_mm"]
    assert some != found["geometry_mm"]  # of those that are validated on, alone


def test_codes_of_another_face_model_say_nothing(held_out, model_path):
    model = read_face_model(model_path)
    autoencoder = little_reconstructor(model).autoencoder
    assert validate(autoencoder, held_out, 3).keys() == {"landmark_px", "photometric"}
    foreign = with_codes(held_out, "another")
    assert validate(autoencoder, foreign, 3).keys() == {"landmark_px", "photometric"}
    with pytest.raises(ValueError, match="true codes are of face model 'little' version 0"):
        evaluate_corpus(autoencoder, foreign)
