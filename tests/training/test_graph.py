"""A recorded step: everything but the recording on the CPU, and all of it where there is a GPU."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from little_corpus import corpus_in_memory

from mofaface.training.batches import Batch
from mofaface.training.config import Augmentation
from mofaface.training.device_corpus import DeviceCorpus, draws
from mofaface.training.graph import WARMUP, CudaRecorder, GraphedStep
from mofaface.training.optimiser import set_rates
from training.little_step import ADADELTA, ADAMW, little_batch, state_of, step_of

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
CONFIGS = {"adamw": ADAMW, "adadelta": replace(ADADELTA, average=0.9)}


class Repeats:
    """Records on the CPU: the work itself is what is repeated, on the inputs' fixed places."""

    def __init__(self):
        self.events = []

    def warm(self, work):
        self.events.append("warm")
        work()

    def record(self, work):
        self.events.append("record")

        def again():
            self.events.append("again")
            work()

        return again


def learn(step, take, given, iterations=8):
    """Some iterations with a falling rate and masks of their own, and the state they lead to."""
    config = replace(step.config.optimiser, warmup=4)
    for iteration, one in zip(range(iterations), given, strict=True):
        set_rates(step.optimiser, config, iteration, iterations)
        torch.manual_seed(hash((0, iteration)))
        take(one)
    return state_of(step), step.tally.means()


@pytest.mark.parametrize("backbone", ["mobilenet", "alexnet"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_repeated_step_is_the_step_bit_for_bit(name, backbone):
    batches = [little_batch(seed) for seed in range(8)]
    batches[5] = replace(batches[5], image=torch.full_like(batches[5].image, float("nan")))
    plain, graphed = step_of(CONFIGS[name], backbone), step_of(CONFIGS[name], backbone)
    recorder = Repeats()
    expected, log = learn(plain, plain, batches)
    found, other_log = learn(graphed, GraphedStep(graphed, "cpu", recorder), batches)
    assert recorder.events == ["warm"] * WARMUP + ["record"] + ["again"] * (8 - WARMUP)
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    assert log == other_log


def test_inputs_are_copied_so_that_the_given_ones_may_change():
    seen = []
    step = GraphedStep(lambda batch: seen.append(batch.image.sum().item()), "cpu", Repeats())
    batch = little_batch(0)
    step(batch)
    places = step._given.image.data_ptr()
    batch.image.fill_(0)
    step(little_batch(1))
    assert step._given.image.data_ptr() == places != batch.image.data_ptr()
    assert seen == [little_batch(0).image.sum().item(), little_batch(1).image.sum().item()]


def test_other_shapes_are_refused():
    step = GraphedStep(lambda batch: None, "cpu", Repeats())
    step(little_batch(0, count=4))
    with pytest.raises(ValueError, match=r"takes image of \(4, 3, 240, 240\), got \(3, 3, 240, 240\)"):
        step(little_batch(0, count=3))


def steps_on_gpu(name, backbone):
    """Two equal steps on the GPU."""
    return (step_of(CONFIGS[name], backbone, device="cuda") for _ in range(2))


@needs_gpu
@pytest.mark.parametrize("backbone", ["mobilenet", "alexnet"])
@pytest.mark.parametrize("name", CONFIGS)
def test_graph_learns_what_single_kernels_learn(name, backbone):
    batches = [little_batch(seed).to("cuda") for seed in range(8)]
    batches[5] = replace(batches[5], image=torch.full_like(batches[5].image, float("nan")))
    plain, graphed = steps_on_gpu(name, backbone)
    expected, _ = learn(plain, plain, batches)
    found, _ = learn(graphed, GraphedStep(graphed, "cuda", CudaRecorder()), batches)
    assert plain.tally.skips() == graphed.tally.skips() == (1, 1)
    for key, value in expected.items():
        # Some kernels of the backward pass add in no fixed order.
        torch.testing.assert_close(
            found[key], value, rtol=1e-3, atol=1e-4, msg=lambda m, key=key: f"{key}: {m}"
        )


@needs_gpu
def test_graph_draws_the_masks_of_the_generators_seed():
    dropout, masks = torch.nn.Dropout(0.5), torch.zeros(1000, device="cuda")
    ones = torch.ones_like(masks)
    step = GraphedStep(lambda batch: masks.copy_(dropout(ones)), "cuda", CudaRecorder())
    found, expected = [], []
    for seed in range(8):
        torch.manual_seed(seed)
        step(little_batch(0, count=1))
        found.append(masks.clone())
        torch.manual_seed(seed)
        expected.append(dropout(ones))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert not torch.equal(found[-1], found[-2])


@needs_gpu
def test_corpus_on_the_gpu_can_be_part_of_a_graph():
    corpus, how = corpus_in_memory(6), Augmentation(blur=1)
    ours, cpus = (DeviceCorpus(corpus, how, device) for device in ("cuda", "cpu"))
    seen: list[Batch] = []
    place = ours.batch(next(draws(6, 4, how, 0, 0, 1)).to("cuda"))

    def keep(draw):
        for name, tensor in vars(ours.batch(draw)).items():
            getattr(place, name).copy_(tensor)

    step = GraphedStep(keep, "cuda", CudaRecorder())
    for draw in draws(6, 4, how, 0, 0, 8):
        step(draw)
        seen.append(place.to("cpu"))
    for found, draw in zip(seen, draws(6, 4, how, 0, 0, 8), strict=True):
        expected = cpus.batch(draw)
        np.testing.assert_allclose(found.image, expected.image, atol=1e-4)
        np.testing.assert_allclose(found.landmarks, expected.landmarks, atol=1e-4)


@needs_gpu
def test_work_that_waits_for_the_gpu_is_refused_with_advice():
    step = GraphedStep(lambda batch: batch.image.sum().item(), "cuda", CudaRecorder())
    with pytest.raises(RuntimeError, match="train with --no-cuda-graph"):
        for _ in range(WARMUP + 1):
            step(little_batch(0, count=1))
