"""Steps of the fit after the network: they lower the errors from a code that is a little off."""

import json
from dataclasses import replace

import pytest
import torch
from little_corpus import corpus_in_memory
from little_face import LITTLE, random_code
from torch import nn

from mofaface.autoencoder import Autoencoder
from mofaface.cli import main
from mofaface.decoder import Decoder
from mofaface.evaluation.on_corpus import evaluate_corpus
from mofaface.face_models.container import read_face_model
from mofaface.geometry import landmark_places
from mofaface.landmarks import LANDMARKS_46
from mofaface.losses import LossWeights
from mofaface.refine import WEIGHTS, Refiner

COUNT = 3


class NearlyRight(nn.Module):
    """An encoder that knows the codes of `corpus_in_memory`, a little wrong; pictures come in their order."""

    def __init__(self):
        super().__init__()
        truth = random_code(LITTLE, 0, COUNT)
        self.packed = LITTLE.pack(truth).float()
        self.packed += 0.02 * torch.randn(self.packed.shape, generator=torch.Generator().manual_seed(1))
        self.anything = nn.Parameter(torch.zeros(1))

    def forward(self, image):
        return LITTLE.unpack(self.packed[: len(image)])


@pytest.fixture(scope="module")
def autoencoder(model_path):
    return Autoencoder(NearlyRight(), Decoder(read_face_model(model_path)))


@pytest.fixture(scope="module")
def corpus():
    split = corpus_in_memory(COUNT)
    return replace(split, codes=LITTLE.pack(random_code(LITTLE, 0, COUNT)).float().numpy())


def means(autoencoder, corpus, refine):
    figures = evaluate_corpus(autoencoder, corpus, refine=refine).figures
    return {name: figures[name]["mean"] for name in ("photometric", "landmark_px", "geometry_mm")}


def test_steps_lower_every_error_and_more_steps_lower_it_further(autoencoder, corpus):
    weights = LossWeights()  # without the landmarks, which are a little off
    alone = means(autoencoder, corpus, None)
    few, many = (means(autoencoder, corpus, Refiner(autoencoder.decoder, n, weights)) for n in (2, 12))
    for name in alone:
        assert many[name] < 0.8 * alone[name], name
    assert many["photometric"] < few["photometric"] < alone["photometric"]


def test_the_landmarks_stay_where_the_network_saw_them(autoencoder, corpus):
    """Of a picture of something else, which would drag the face along."""
    code = autoencoder.encoder(torch.empty(COUNT))
    image = torch.rand(COUNT, 3, 240, 240, generator=torch.Generator().manual_seed(2))
    decoder = autoencoder.decoder
    moved = {}
    for land in (0.0, 1e4):
        refined = Refiner(decoder, 4, replace(WEIGHTS, land=land))(code, image)
        places = [
            landmark_places(decoder.model, decoder.camera, c)[:, list(LANDMARKS_46)] for c in (code, refined)
        ]
        moved[land] = float((places[0] - places[1]).norm(dim=-1).mean())
    assert moved[1e4] < 0.2 * moved[0.0]


def test_no_steps_are_refused(autoencoder):
    with pytest.raises(ValueError, match="one step or more, got -2"):
        Refiner(autoencoder.decoder, -2)


def test_the_command_measures_after_refinement(corpus_path, weights_path, model_path, tmp_path, capsys):
    given = ["--corpus", str(corpus_path), "--weights", str(weights_path), "--model", str(model_path)]
    found = []
    for more in ([], ["--refine", "4"]):
        with pytest.raises(SystemExit) as caught:
            main(["evaluate", *given, *more, "--out", str(tmp_path / "f.json")])
        assert caught.value.code == 0
        found.append(json.loads((tmp_path / "f.json").read_text()))
    assert found[1]["photometric"]["mean"] < found[0]["photometric"]["mean"]
    assert found[1]["refine"] == 4
    with pytest.raises(SystemExit) as caught:
        main(["evaluate", *given, "--refine", "-1"])
    assert caught.value.code == 1 and "--refine is a number of steps, got -1" in capsys.readouterr().err
