"""Steps after the network: they lower the errors from a code that is a little off, of each photograph for itself."""

import json
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from face_photos import EXAMPLES, needs_examples
from little_corpus import TINY, corpus_in_memory
from little_face import LITTLE, random_code
from torch import nn

from mofaface import refine
from mofaface.autoencoder import Autoencoder
from mofaface.cli import main
from mofaface.decoder import Decoder
from mofaface.evaluation.on_corpus import evaluate_corpus
from mofaface.face_models.container import read_face_model
from mofaface.fit import FitConfig, Stage, fit
from mofaface.fit_energy import Landmarks
from mofaface.geometry import landmark_places
from mofaface.landmarks import LANDMARKS_46
from mofaface.losses import LossWeights, landmark, photometric, total
from mofaface.reconstruct import load
from mofaface.refine import WEIGHTS, Refiner
from mofaface.training.batches import make_batch
from mofaface.training.config import NO_AUGMENTATION
from mofaface.weights import WeightsError, read_autoencoder, read_tensors, write_tensors, write_weights

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
    few, many = (means(autoencoder, corpus, Refiner(autoencoder.decoder, n, weights)) for n in (2, 24))
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


@pytest.fixture
def shown(autoencoder, corpus):
    """Codes that are a little off, and what they shall explain."""
    batch = make_batch(corpus, list(range(COUNT)), NO_AUGMENTATION, [0])
    return autoencoder.encoder(batch.image), batch.image, Landmarks(batch.landmarks, batch.confidence)


def energies(decoder, code, image, landmarks, weights=WEIGHTS):
    """Equation 7 by the plain decoder."""
    face = decoder(code)
    land = landmark(face, decoder.model.landmarks_46, landmarks.places, landmarks.confidence, 240)
    return total(photometric(image, face), land, code, weights)


def test_steps_end_where_levenberg_and_marquardt_end(autoencoder, shown):
    code, image, landmarks = shown
    decoder = autoencoder.decoder
    refined = Refiner(decoder, 60)(code, image, landmarks)
    found = energies(decoder, refined, image, landmarks)
    config = FitConfig(landmark_stages=(), stages=(Stage(coarse=False, iterations=60),))
    for i in range(COUNT):
        one = slice(i, i + 1)
        start = LITTLE.unpack(LITTLE.pack(code)[one])
        best = fit(
            image[one],
            decoder,
            WEIGHTS,
            landmarks.places[one],
            landmarks.confidence[one],
            start=start,
            config=config,
        )
        fallen = best.energy_start - best.energy
        assert float(found[i]) < best.energy + 0.1 * fallen


def test_photographs_do_not_depend_on_the_others_of_a_batch(autoencoder, shown):
    code, image, landmarks = shown
    refiner = Refiner(autoencoder.decoder, 8)
    together = LITTLE.pack(refiner(code, image, landmarks))
    for i in range(COUNT):
        one = slice(i, i + 1)
        held = Landmarks(landmarks.places[one], landmarks.confidence[one])
        alone = LITTLE.pack(refiner(LITTLE.unpack(LITTLE.pack(code)[one]), image[one], held))
        torch.testing.assert_close(alone[0], together[i], rtol=1e-3, atol=1e-3)


def test_no_photograph_gets_worse(autoencoder, shown):
    """Also from where steps lead nowhere, and of a picture that shows no face."""
    _, image, landmarks = shown
    decoder = autoencoder.decoder
    code = random_code(LITTLE, 7, COUNT, 2.0)
    code = LITTLE.unpack(LITTLE.pack(code).float())
    image = torch.stack((image[0], torch.zeros_like(image[1]), torch.rand_like(image[2])))
    before = energies(decoder, code, image, landmarks)
    for steps in (1, 7):
        after = energies(decoder, Refiner(decoder, steps)(code, image, landmarks), image, landmarks)
        assert (after <= before * (1 + 1e-5)).all()


def test_a_code_that_is_no_number_stays_and_harms_no_other(autoencoder, shown):
    code, image, landmarks = shown
    packed = LITTLE.pack(code)
    packed[1] = torch.nan
    refiner = Refiner(autoencoder.decoder, 3)
    found = LITTLE.pack(refiner(LITTLE.unpack(packed), image, landmarks))
    expected = LITTLE.pack(refiner(code, image, landmarks))
    assert found[1].isnan().all()
    for i in (0, 2):
        torch.testing.assert_close(found[i], expected[i], rtol=1e-3, atol=1e-3)


def test_given_landmarks_pull_and_without_confidence_the_codes_own_are_held(autoencoder, shown):
    code, image, landmarks = shown
    decoder = autoencoder.decoder
    own = Landmarks(decoder(code).uv_crop[:, decoder.model.landmarks_46], torch.ones(COUNT, 46))
    moved = Landmarks(own.places + 6, own.confidence)
    nobody = Landmarks(moved.places, torch.zeros(COUNT, 46))
    refiner = Refiner(decoder, 4, replace(WEIGHTS, land=1e4))
    places = {}
    for name, given in {"own": own, "none": None, "moved": moved, "nobody": nobody}.items():
        refined = refiner(code, image, given)
        places[name] = decoder(refined).uv_crop[:, decoder.model.landmarks_46]
    torch.testing.assert_close(places["own"], places["none"], rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(places["own"], places["nobody"], rtol=1e-3, atol=1e-2)
    assert (places["moved"] - moved.places).norm(dim=-1).mean() < 1


def test_a_sample_of_the_vertices_leads_nearly_as_far(autoencoder, shown, monkeypatch):
    """A little face has fewer vertices than a matrix is usually made from."""
    decoder, ends = autoencoder.decoder, {}
    assert decoder.model.frontal.sum() > 100
    for sample in (10_000, 100):
        monkeypatch.setattr(refine, "SAMPLE", sample)
        ends[sample] = energies(decoder, Refiner(decoder, 12)(*shown), *shown[1:])
    start = energies(decoder, *shown)
    assert not torch.equal(ends[100], ends[10_000])
    assert ((start - ends[100]) > 0.8 * (start - ends[10_000])).all()


def test_other_precision_inference_mode_and_no_photograph_at_all(autoencoder, shown):
    code, image, landmarks = shown
    expected = LITTLE.pack(Refiner(autoencoder.decoder, 3)(code, image, landmarks))
    with torch.inference_mode():
        found = Refiner(autoencoder.decoder, 3)(LITTLE.unpack(LITTLE.pack(code)), image.clone(), landmarks)
    torch.testing.assert_close(LITTLE.pack(found), expected, rtol=1e-4, atol=1e-4)
    exact = Refiner(deepcopy(autoencoder.decoder).double(), 3)
    found = LITTLE.pack(exact(code, image, landmarks))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)
    empty = LITTLE.unpack(LITTLE.pack(code)[:0])
    assert LITTLE.pack(exact(empty, image[:0])).shape == (0, LITTLE.size)


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
    assert caught.value.code == 1 and "0 for the network alone; got -1" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["evaluate", *given, "--untrained", "--refine", "1"])
    assert caught.value.code == 1 and "leave out --refine" in capsys.readouterr().err


def test_weights_say_how_many_steps_follow_them(corpus_path, weights_path, model_path, tmp_path, capsys):
    network = read_autoencoder(weights_path, read_face_model(model_path))
    path = tmp_path / "w.safetensors"
    write_weights(path, network.encoder.state_dict(), TINY, network.decoder, {}, torch.float32, refine=4)
    assert network.refine == 0 and read_autoencoder(path, network.decoder.model).refine == 4
    given = ["--corpus", str(corpus_path), "--weights", str(path), "--model", str(model_path)]
    for more, steps in (([], 4), (["--refine", "2"], 2), (["--refine", "0"], 0), (["--untrained"], 0)):
        with pytest.raises(SystemExit) as caught:
            main(["evaluate", *given, *more, "--out", str(tmp_path / "f.json")])
        assert caught.value.code == 0
        assert json.loads((tmp_path / "f.json").read_text())["refine"] == steps
    out = tmp_path / "onnx"
    with pytest.raises(SystemExit):
        main(["export", "--onnx", str(out), *given[2:]])
    assert "the 4 steps that shall follow" in capsys.readouterr().out
    for more, steps in ({}, 4), ({"refine": 1}, 1), ({"refine": 0}, 0):
        refiner = load(path, model_path, **more).refiner
        assert (0 if refiner is None else refiner.steps) == steps
    for wrong in ("-1", "1.5", "true", '"many"'):
        tensors, metadata = read_tensors(path, "mofaface-weights")
        write_tensors(tmp_path / "wrong.safetensors", tensors, metadata | {"refine": wrong})
        with pytest.raises(WeightsError, match="does not say which refine it needs"):
            read_autoencoder(tmp_path / "wrong.safetensors", network.decoder.model)


@needs_examples
def test_a_report_says_how_many_steps_were_taken(weights_path, model_path, tmp_path):
    network = read_autoencoder(weights_path, read_face_model(model_path))
    path = tmp_path / "w.safetensors"
    write_weights(path, network.encoder.state_dict(), TINY, network.decoder, {}, torch.float32, refine=2)
    photo = str(EXAMPLES / "congress_C001072.jpg")
    for more, note in (([], "refined by 2 steps"), (["--refine", "0"], "")):
        out = tmp_path / f"out{len(more)}"
        given = ["--weights", str(path), "--model", str(model_path), "--out", str(out), "--save", "json"]
        with pytest.raises(SystemExit) as caught:
            main(["reconstruct", photo, *given, *more])
        assert caught.value.code == 0
        [entry] = json.loads((out / "report.json").read_text())["photos"]
        assert note in json.dumps(entry) and ("refined" in json.dumps(entry)) == bool(note)
