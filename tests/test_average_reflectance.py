"""The average reflectance of photographs, on photographs of one colour."""

from dataclasses import replace

import numpy as np
import torch
from little_corpus import corpus_in_memory
from little_face import little_arrays
from little_photo import Oracle

from mofaface.autoencoder import Autoencoder
from mofaface.average_reflectance import FEWEST_VIEWS, average_reflectance, with_mean_reflectance
from mofaface.corpus.sample import encode_jpeg
from mofaface.decoder import Decoder
from mofaface.face_models.container import read_face_model


def grey_corpus(count):
    """Photographs of (almost) one grey, half of them of turned heads."""
    corpus = corpus_in_memory(2 * count)
    grey = encode_jpeg(np.full((240, 240, 3), 140, np.uint8))
    red = encode_jpeg(np.full((240, 240, 3), (255, 0, 0), np.uint8))
    yaw = np.repeat(np.array([0.0, 0.5], np.float32), count)
    return replace(corpus, jpegs=(grey,) * count + (red,) * count, yaw=yaw)


def test_photographs_of_one_colour_give_it_over_the_shading(model_path):
    model = read_face_model(model_path)
    autoencoder = Autoencoder(Oracle(model.layout.zero(1)), Decoder(model))
    mean = average_reflectance(autoencoder, grey_corpus(FEWEST_VIEWS + 2), photos=1000)
    seen = np.abs(mean - 140 / 255 / 0.7).max(1) < 0.01
    own = np.abs(mean - model.mean_reflectance.numpy()).max(1) < 1e-6
    assert (seen | own).all() and seen.mean() > 0.5


def test_too_few_photographs_change_nothing(model_path):
    model = read_face_model(model_path)
    autoencoder = Autoencoder(Oracle(model.layout.zero(1)), Decoder(model))
    mean = average_reflectance(autoencoder, grey_corpus(3), photos=3)
    np.testing.assert_allclose(mean, model.mean_reflectance.numpy())


def test_new_mean_is_symmetric_and_has_a_version_of_its_own():
    arrays = little_arrays()
    mirror = np.arange(len(arrays.mean_shape))[::-1].copy()
    mean = torch.rand(len(mirror), 3).numpy()
    new = with_mean_reflectance(replace(arrays, mirror=mirror), mean, "x-averaged")
    np.testing.assert_allclose(new.mean_reflectance, new.mean_reflectance[mirror], rtol=1e-6)
    assert new.version == "x-averaged"
