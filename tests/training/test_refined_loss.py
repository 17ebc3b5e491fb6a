"""The distance from refined codes: what it is, what it is a gradient of, and that a run learns from it."""

from dataclasses import replace

import pytest
import torch
from little_corpus import corpus_in_memory, little_config
from little_face import LITTLE, little_model, random_code

from mofaface.decoder import Decoder
from mofaface.face_models.container import read_face_model
from mofaface.fit_energy import Landmarks
from mofaface.losses import LossWeights
from mofaface.refine import Refiner
from mofaface.training.batches import make_batch
from mofaface.training.config import NO_AUGMENTATION
from mofaface.training.refined_loss import TEACHER_DAMPING, TEACHER_LAND, RefinedLoss
from mofaface.training.trainer import Trainer
from mofaface.weights import read_autoencoder

COUNT, STEPS = 3, 3
OWN = LossWeights(reg=1e-4, beta=0.4)


@pytest.fixture(scope="module")
def decoder():
    return Decoder(little_model(side=17).float())


@pytest.fixture(scope="module")
def batch():
    return make_batch(corpus_in_memory(COUNT), list(range(COUNT)), NO_AUGMENTATION, [0])


@pytest.fixture
def answer():
    """Packed codes that are a little off."""
    truth = LITTLE.pack(random_code(LITTLE, 0, COUNT)).float()
    return truth + 0.02 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("land", [0.0, 2.5])
def test_it_is_the_distance_from_where_the_refiner_ends(decoder, batch, answer, land):
    weights = replace(OWN, land=land, contour=0.3 if land else 0.0)
    units = torch.linspace(0.5, 2.0, LITTLE.size)
    x = answer.clone().requires_grad_()
    found = RefinedLoss(decoder, units, weights, STEPS)(LITTLE.unpack(x), batch)
    refiner = Refiner(decoder, STEPS, replace(OWN, land=TEACHER_LAND), TEACHER_DAMPING)
    landmarks = Landmarks(batch.landmarks, batch.confidence) if land else None
    end = LITTLE.pack(refiner(LITTLE.unpack(answer), batch.image, landmarks))
    torch.testing.assert_close(found, (((answer - end) / units) ** 2).mean(-1), rtol=1e-3, atol=1e-6)
    # No gradient goes through the steps: only the answer moves towards their end.
    found.sum().backward()
    torch.testing.assert_close(x.grad, 2 * (answer - end) / units**2 / LITTLE.size, rtol=1e-2, atol=1e-6)


def test_a_run_learns_from_it_and_writes_the_steps_that_shall_follow(corpus_path, model_path, tmp_path):
    config = little_config(corpus_path, model_path, tmp_path / "run", refined_steps=2, refine=3)
    batch = make_batch(corpus_in_memory(4), [0, 1, 2, 3], NO_AUGMENTATION, [0])
    ends = {}
    for refined in (0.0, 1.0):
        trainer = Trainer(replace(config, weights=replace(config.weights, refined=refined)))
        trainer.step(batch)
        ends[refined] = torch.cat([p.flatten() for p in trainer.autoencoder.encoder.parameters()])
    assert not torch.equal(ends[0.0], ends[1.0])
    config.out.mkdir(parents=True)
    trainer.save()
    written = read_autoencoder(config.out / "weights.safetensors", read_face_model(model_path))
    assert written.refine == 3


def test_no_steps_are_refused(decoder):
    with pytest.raises(ValueError, match="one step or more, got 0"):
        RefinedLoss(decoder, torch.ones(LITTLE.size), OWN, 0)
