"""Steps of the fit after the network: they lower the errors from a code that is a little off."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from little_corpus import corpus_in_memory
from little_face import LITTLE, random_code
from torch import nn

from mofaface.autoencoder import Autoencoder
from mofaface.cli import main
from mofaface.decoder import Decoder
from mofaface.evaluation.on_corpus import evaluate_corpus
from mofaface.evaluation.refined import Refiner
from mofaface.face_models.container import read_face_model
from mofaface.losses import LossWeights

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
    weights = LossWeights()
    alone = means(autoencoder, corpus, None)
    few, many = (means(autoencoder, corpus, Refiner(autoencoder.decoder, n, weights)) for n in (2, 12))
    for name in alone:
        assert many[name] < 0.8 * alone[name], name
    assert many["photometric"] < few["photometric"] < alone["photometric"]


def test_landmarks_move_the_answer_only_where_they_are_asked_for(autoencoder, corpus):
    moved = replace(corpus, landmarks=corpus.landmarks + np.float32(6))
    weights, decoder = LossWeights(land=50.0), autoencoder.decoder
    without = Refiner(decoder, 4, weights)
    assert means(autoencoder, moved, without)["geometry_mm"] == pytest.approx(
        means(autoencoder, corpus, without)["geometry_mm"]
    )
    pulled = Refiner(decoder, 4, weights, landmarks=True)
    assert (
        means(autoencoder, moved, pulled)["landmark_px"] < means(autoencoder, moved, without)["landmark_px"]
    )


def test_the_command_measures_after_refinement(corpus_path, weights_path, model_path, tmp_path, capsys):
    given = ["--corpus", str(corpus_path), "--weights", str(weights_path), "--model", str(model_path)]
    found = []
    for more in ([], ["--refine", "4"]):
        with pytest.raises(SystemExit) as caught:
            main(["evaluate", *given, *more, "--out", str(tmp_path / "f.json")])
        assert caught.value.code == 0
        found.append(json.loads((tmp_path / "f.json").read_text()))
    assert found[1]["photometric"]["mean"] < found[0]["photometric"]["mean"]
    assert found[1]["refine"] == {"steps": 4, "landmarks": False}
    for wrong, sentence in (
        (["--refine", "-1"], "--refine is a number of steps and goes with --corpus alone; got -1"),
        (["--refine-landmarks"], "--refine-landmarks needs --refine STEPS"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(["evaluate", *given, *wrong])
        assert caught.value.code == 1 and sentence in " ".join(capsys.readouterr().err.split())
