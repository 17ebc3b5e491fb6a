"""What is measured on every photograph, against the plain decoder and by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from little_corpus import corpus_in_memory
from little_photo import little_reconstructor

from mofaface.code import Code, CodeLayout
from mofaface.decoder import illuminate
from mofaface.evaluation.photographs import cheek_places, landmark_figures, light_figures, measure
from mofaface.face_models.container import read_face_model
from mofaface.metrics import photometric_error
from mofaface.skin_tone import ita
from mofaface.training.validation import validate


@pytest.fixture(scope="module")
def autoencoder(model_path):
    return little_reconstructor(read_face_model(model_path)).autoencoder


def test_errors_on_a_corpus_have_the_means_of_the_validation(autoencoder):
    corpus = corpus_in_memory(20)
    measured = measure(autoencoder, corpus, batch=7)  # more than one batch, and no multiple of it
    means = validate(autoencoder, corpus, 20)
    for name in ("landmark_px", "photometric"):
        values = measured.errors[name]
        assert values.shape == (20,) and values.mean() == pytest.approx(means[name], rel=1e-5)
    assert torch.is_grad_enabled()


def test_every_photograph_is_measured_as_the_plain_decoder_does(autoencoder):
    corpus = corpus_in_memory(5)
    measured = measure(autoencoder, corpus, batch=2)
    image = torch.from_numpy(np.stack([corpus.image(i) for i in range(5)])).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        code, face = autoencoder(image)
        plain = photometric_error(image, face).numpy()
    np.testing.assert_allclose(measured.errors["photometric"], plain, rtol=1e-4)
    np.testing.assert_allclose(measured.codes, autoencoder.decoder.model.layout.pack(code).numpy())
    model = autoencoder.decoder.model
    skin = face.reflectance[0, model.frontal].median(0).values.clamp(0, 1).double().numpy()
    np.testing.assert_allclose(measured.traits["ita_reflectance"], ita(skin), rtol=1e-3)


def test_landmark_figures_by_hand():
    truth = torch.zeros(1, 68, 2)
    truth[0, 36], truth[0, 45] = torch.tensor([0.0, 0.0]), torch.tensor([30.0, 40.0])  # 50 apart, box 30 × 40
    seen = truth.clone()
    seen[0, :17, 0] += 6.0  # the jaw by 6, the rest by 2
    seen[0, 17:, 1] += 2.0
    found = {name: value.item() for name, value in landmark_figures(seen, truth).items()}
    all_68 = (17 * 6 + 51 * 2) / 68
    assert found["landmark_px"] == pytest.approx(2) and found["landmark_inner_px"] == pytest.approx(2)
    assert found["landmark_68_px"] == pytest.approx(all_68)
    assert found["landmark_eyes"] == pytest.approx(2 / 50)
    assert found["landmark_box"] == pytest.approx(all_68 / 1200**0.5)


def test_brightness_is_the_mean_over_a_sphere_and_direction_its_largest_change():
    gamma = torch.randn(1, 9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.1
    gamma[:, 4:] = 0
    code = Code(**(vars(CodeLayout(1, 1, 1).zero(dtype=torch.float64)) | {"gamma": gamma}))
    found = light_figures(code)
    n = torch.nn.functional.normalize(
        torch.randn(1, 400_000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)), dim=-1
    )
    shading = illuminate(n, gamma).mean(-1)
    assert found["brightness"].item() == pytest.approx(shading.mean().item(), abs=1e-3)
    change = (shading.max() - shading.min()) / 2 / shading.mean()
    assert found["directionality"].item() == pytest.approx(change.item(), rel=1e-2)


def test_skin_is_read_from_the_cheek_that_shows(autoencoder):
    corpus = corpus_in_memory(1)
    landmarks = np.full((68, 2), 120.0, np.float32)
    landmarks[[41, 31, 48, 3]] = (60, 80), (110, 110), (110, 160), (40, 140)  # wide, on the picture's left
    landmarks[[46, 35, 54, 13]] = (150, 80), (140, 110), (140, 160), (155, 140)  # narrow
    left = cheek_places(torch.from_numpy(landmarks[None]))[0].numpy()
    assert left[:, 0].min() > 50 and left[:, 0].max() < 110 and left[:, 1].min() > 80
    from mofaface.corpus.sample import encode_jpeg

    picture = np.full((240, 240, 3), 255, np.uint8)
    picture[:, :125] = (200, 140, 110)
    corpus = replace(corpus, jpegs=(encode_jpeg(picture),), landmarks=landmarks[None])
    told = measure(autoencoder, corpus).traits["ita_photo"][0]
    assert told == pytest.approx(ita(np.array([200, 140, 110]) / 255), abs=2)
