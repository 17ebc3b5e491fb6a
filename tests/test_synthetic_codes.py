"""Random codes are functions of seed and number, and faces lie in the crop as after detection."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mofaface.camera import Camera
from mofaface.corpus import CorpusError, load_corpus
from mofaface.decoder import Decoder
from mofaface.face_models import load_face_model
from mofaface.face_models.container import read_face_model
from mofaface.reconstruct import load
from mofaface.synthetic import People, Pose, SynthConfig, codes_of_corpus, read_codes, write_codes
from mofaface.synthetic.codes import BROWS, CHIN, INNER_LIPS, CodeSampler, RealCodes
from mofaface.weights import model_identity

CONFIG = SynthConfig(Path("unused"))


@pytest.fixture(scope="module")
def model():
    return load_face_model()


@pytest.fixture(scope="module")
def sampler(model) -> CodeSampler:
    return CodeSampler(CONFIG, model)


def packed(sampler: CodeSampler, i: int, person: int | None = None) -> np.ndarray:
    code, _ = sampler(i, i if person is None else person)
    return sampler.model.layout.pack(code)[0].numpy()


def test_a_code_is_a_function_of_seed_and_number(sampler, model):
    again = CodeSampler(CONFIG, model)
    packed(again, 3)  # what was drawn before does not matter
    np.testing.assert_array_equal(packed(sampler, 7), packed(again, 7))
    assert (packed(sampler, 7) != packed(sampler, 8)).mean() > 0.99
    assert (packed(CodeSampler(replace(CONFIG, seed=1), model), 7) != packed(sampler, 7)).mean() > 0.99


def test_one_person_keeps_shape_and_reflectance_and_nothing_else(sampler):
    (first, _), (second, _) = sampler(0, 5), sampler(1, 5)
    assert torch.equal(first.alpha, second.alpha) and torch.equal(first.beta, second.beta)
    assert not torch.equal(first.delta, second.delta) and not torch.equal(first.gamma, second.gamma)


def test_people_are_the_models_population(sampler):
    alpha, beta = (
        np.stack([getattr(sampler(i, i)[0], n)[0].numpy() for i in range(40)]) for n in ("alpha", "beta")
    )
    for values in (alpha, beta):
        assert abs(values.mean()) < 0.06 and values.std() == pytest.approx(1.0, abs=0.05)


def test_strengths_scale_the_coefficients(model, sampler):
    half = CodeSampler(replace(CONFIG, people=People(shape=0.5, reflectance=0.25)), model)
    (full, _), (small, _) = sampler(2, 2), half(2, 2)
    torch.testing.assert_close(small.alpha, 0.5 * full.alpha)
    torch.testing.assert_close(small.beta, 0.25 * full.beta)


def test_lips_do_not_overlap(sampler, model):
    upper, lower = (model.landmarks_68[list(side)] for side in zip(*INNER_LIPS, strict=True))
    for i in range(20):
        code, _ = sampler(i, i)
        x = model.geometry(code.alpha, code.delta)[0]
        assert (x[upper, 1] - x[lower, 1]).min() > -0.01


def test_turns_keep_their_limits(model):
    sampler = CodeSampler(
        replace(CONFIG, pose=Pose(wide_rate=1.0, yaw_limit=60.0, pitch=0.0, roll=0.0)), model
    )
    yaws = np.degrees([sampler(i, i)[0].rotation[0, 1].item() for i in range(60)])
    assert np.abs(yaws).max() <= 60.001 and np.abs(yaws).max() > 50 and abs(np.mean(yaws)) < 14


def test_faces_lie_in_the_crop_as_the_rule_leaves_them(model):
    # Frontal faces of any size: the middle between brows and chin scatters by 3.6 px about where the zero code has it.
    pose = Pose(wide_rate=0.0, yaw=0.0, pitch=0.0, roll=0.0)
    still = People(expression=0.0, neutral_rate=1.0, blink_rate=0.0)
    sampler = CodeSampler(replace(CONFIG, pose=pose, people=still), model)
    decoder, middles, sizes = Decoder(model), [], []
    zero = _landmarks(decoder, model.layout.zero())
    for i in range(60):
        landmarks = _landmarks(decoder, sampler(i, i)[0])
        middles.append(_middle(landmarks) - _middle(zero))
        sizes.append(np.log(_spread(landmarks) / _spread(zero)))
    assert np.abs(np.mean(middles, 0)).max() < 1.0
    np.testing.assert_allclose(np.std(middles, 0), 3.6, atol=0.9)
    # Frontal spread is not the spatial one, so people's proportions add a little to 5.3 %.
    assert abs(np.mean(sizes)) < 0.03 and 0.04 < np.std(sizes) < 0.075


def test_another_focal_length_keeps_the_faces_size(model):
    sampler = CodeSampler(replace(CONFIG, pose=Pose(focal_low=500.0, focal_high=3000.0)), model)
    focals, sizes = [], []
    for i in range(30):
        code, camera = sampler(i, i)
        focals.append(camera.focal)
        sizes.append(_spread(_landmarks(Decoder(model, camera), code)))
        assert camera.distance == camera.focal * Camera().distance / Camera().focal
    assert min(focals) < 800 and max(focals) > 2000
    assert abs(np.corrcoef(np.log(focals), sizes)[0, 1]) < 0.4


def test_codes_of_photographs_come_back(corpus_path, weights_path, model_path, tmp_path):
    autoencoder = load(str(weights_path), str(model_path), device="cpu").autoencoder
    split = load_corpus(corpus_path, "train")
    real = codes_of_corpus(autoencoder, split)
    write_codes(tmp_path / "codes.npz", real)
    model = read_face_model(model_path)
    found = read_codes(tmp_path / "codes.npz", model)
    np.testing.assert_array_equal(found.codes, real.codes)
    assert len(found.codes) == len(split) and found.model == model_identity(model)


def test_pose_light_and_expression_stay_near_a_photographs(model, tmp_path):
    layout = model.layout
    code = layout.zero()
    code.rotation[:] = torch.tensor([0.1, -0.7, 0.05])
    code.delta[:, 0] = 3.0
    code.gamma[:, 2] = -0.3
    write_codes(tmp_path / "c.npz", RealCodes(layout.pack(code).numpy(), model_identity(model)))
    sampler = CodeSampler(replace(CONFIG, codes=tmp_path / "c.npz", codes_rate=1.0), model)
    drawn = [sampler(i, i)[0] for i in range(40)]
    rotations = torch.cat([c.rotation for c in drawn])
    assert (rotations.mean(0) - code.rotation[0]).abs().max() < 0.05 and 0.03 < rotations.std(0).mean() < 0.08
    assert torch.cat([c.delta for c in drawn])[:, 0].mean() > 2.4
    assert torch.cat([c.gamma for c in drawn])[:, 2].mean() == pytest.approx(-0.3, abs=0.06)


def test_codes_of_another_model_are_refused(model, model_path, tmp_path):
    little = read_face_model(model_path)
    codes = np.zeros((2, little.layout.size), np.float32)
    write_codes(tmp_path / "c.npz", RealCodes(codes, model_identity(little)))
    with pytest.raises(CorpusError, match="codes of face model 'little' .*mofaface synth-codes"):
        read_codes(tmp_path / "c.npz", model)


@pytest.mark.parametrize("data", [b"", b"no archive"])
def test_what_is_no_file_of_codes_says_how_to_make_one(model, tmp_path, data):
    (tmp_path / "c.npz").write_bytes(data)
    for path in (tmp_path / "c.npz", tmp_path / "gone.npz"):
        with pytest.raises(CorpusError, match="mofaface synth-codes"):
            read_codes(path, model)


def _landmarks(decoder: Decoder, code) -> np.ndarray:
    with torch.no_grad():
        return decoder(code).uv_crop[0, decoder.model.landmarks_68].numpy()


def _middle(landmarks: np.ndarray) -> np.ndarray:
    return (landmarks[BROWS].mean(0) + landmarks[CHIN]) / 2


def _spread(landmarks: np.ndarray) -> float:
    return float(np.sqrt(landmarks.var(0).sum()))
