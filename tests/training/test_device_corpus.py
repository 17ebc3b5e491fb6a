"""A corpus on a device: the same crops as from the CPU's augmentation."""

import logging
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from little_corpus import corpus_in_memory

from mofaface.training import device_corpus as module
from mofaface.training.batches import Change, batches, chosen, draw_changes
from mofaface.training.config import NO_AUGMENTATION, Augmentation, TrainConfig
from mofaface.training.device_corpus import SMALLEST, DeviceCorpus, Draw, draws, on_device, resolution_filters
from training.little_step import Watch

KINDS = {
    "flip": Augmentation(0, 0, 0, True, 0, 0),
    "shift": Augmentation(8, 0, 0, False, 0, 0),
    "move": Augmentation(colour=0, blur=0),
    "colour": Augmentation(0, 0, 0, False, 0.2, 0),
    "blur": Augmentation(0, 0, 0, False, 0, 1),
    "all": Augmentation(blur=1),
    "default": Augmentation(),
}


@pytest.fixture(scope="module")
def corpus():
    """Eight smooth rendered faces: in noise a 64th of a pixel would already be seen."""
    noisy = corpus_in_memory(8)
    smooth = [cv2.GaussianBlur(noisy.image(i), (0, 0), 1.5) for i in range(8)]
    jpegs = tuple(cv2.imencode(".png", image[..., ::-1])[1].tobytes() for image in smooth)
    confidence = np.random.default_rng(0).random((8, 68)).astype(np.float32)
    return replace(noisy, jpegs=jpegs, confidence=confidence)


def both(corpus, how, iterations=4, batch=6, seed=3):
    """The batches of the CPU and of the device corpus."""
    device = DeviceCorpus(corpus, how, "cpu")
    ours = [device.batch(draw) for draw in draws(len(corpus), batch, how, seed, 0, iterations)]
    return list(batches(corpus, batch, how, seed, 0, iterations)), ours


@pytest.mark.parametrize("how", [NO_AUGMENTATION, KINDS["flip"]])
def test_crops_that_keep_their_pixels_are_the_same_bits(corpus, how):
    for expected, found in zip(*both(corpus, how), strict=True):
        torch.testing.assert_close(found.image, expected.image, rtol=0, atol=1e-5 if how.flip else 0)
        assert all(torch.equal(getattr(found, n), t) for n, t in vars(expected).items() if n != "image")


@pytest.mark.parametrize("kind", KINDS)
def test_crops_are_opencvs_up_to_its_rounding_and_landmarks_exactly(corpus, kind):
    for expected, found in zip(*both(corpus, KINDS[kind]), strict=True):
        levels = 255 * (found.image - expected.image).abs()
        assert levels.max() < 4 and levels.mean() < 0.5
        assert all(torch.equal(getattr(found, n), t) for n, t in vars(expected).items() if n != "image")


def test_a_wrong_turn_or_resolution_would_be_noticed(corpus):
    how = KINDS["all"]
    expected = next(batches(corpus, 6, how, 1, 0, 1))
    device, draw = DeviceCorpus(corpus, how, "cpu"), next(draws(8, 6, how, 1, 0, 1))
    for column, change in (
        (2, lambda flip: 1 - flip),
        (4, lambda sine: -sine),
        (1, lambda r: (2 * r).clamp(max=240)),
    ):
        numbers = draw.numbers.clone()
        numbers[:, column] = change(numbers[:, column])
        found = device.batch(Draw(numbers))
        assert 255 * (found.image - expected.image).abs().max() > 8


def test_draw_holds_what_was_drawn():
    changes = draw_changes(Augmentation(blur=0.5), np.random.default_rng(0), 5)
    draw = Draw.of([7, 1, 0, 3, 99_999], changes)
    assert draw.photos.tolist() == [7, 1, 0, 3, 99_999]
    assert draw.mirrored.tolist() == [c.mirrored for c in changes]
    assert draw.resolutions.tolist() == [c.resolution for c in changes]
    for name in ("A", "b", "gain"):
        np.testing.assert_array_equal(getattr(draw, name), [getattr(c, name) for c in changes])


def test_draws_of_a_resumed_run_are_those_of_an_unbroken_one():
    how = Augmentation()
    unbroken = list(draws(7, 3, how, 5, 0, 6))
    resumed = [*draws(7, 3, how, 5, 0, 2), *draws(7, 3, how, 5, 2, 6)]
    assert all(torch.equal(a.numbers, b.numbers) for a, b in zip(unbroken, resumed, strict=True))
    assert not torch.equal(unbroken[0].numbers, unbroken[1].numbers)
    assert [draw.photos.tolist() for draw in unbroken] == [chosen(7, 3, 5, i) for i in range(6)]


def test_filters_are_opencvs_resizes_of_a_picture():
    filters = resolution_filters()
    picture = np.random.default_rng(0).random((240, 240)).astype(np.float32)
    for resolution in (SMALLEST, 97, 120, 216, 239):
        small = cv2.resize(picture, (resolution, resolution), interpolation=cv2.INTER_AREA)
        expected = cv2.resize(small, (240, 240), interpolation=cv2.INTER_LINEAR)
        F = filters[resolution - SMALLEST].numpy()
        np.testing.assert_allclose(F @ picture @ F.T, expected, atol=1e-5)
    assert torch.equal(filters[-1], torch.eye(240))
    torch.testing.assert_close(filters.sum(-1), torch.ones(len(filters), 240))


def test_every_resolution_that_can_be_drawn_has_a_filter():
    lowest, highest = (round(240 * share) for share in module.RESOLUTIONS)
    assert lowest == SMALLEST and highest <= 240 and len(resolution_filters()) == 240 - SMALLEST + 1


def test_making_a_batch_reads_nothing_back(corpus):
    device, draw = DeviceCorpus(corpus, KINDS["all"], "cpu"), next(draws(8, 6, KINDS["all"], 3, 0, 1))
    with Watch():
        device.batch(draw)


def test_the_cpu_streams_unless_told_otherwise(corpus):
    found = {
        name: on_device(corpus, TrainConfig(corpus_on_device=name), "cpu") for name in ("auto", "no", "yes")
    }
    assert found["auto"] is None and found["no"] is None and len(found["yes"]) == 8


def test_without_room_the_run_streams_and_says_so(corpus, monkeypatch, caplog):
    monkeypatch.setattr(module, "free_bytes", lambda device: 10**9)
    with caplog.at_level(logging.WARNING, "mofaface"):
        assert on_device(corpus, TrainConfig(), "cuda") is None
    assert (
        "8 decoded crops" in caplog.text and "1.0 GB are free; they are decoded while training" in caplog.text
    )
    with pytest.raises(ValueError, match="1.0 GB are free; give --corpus-on-device no"):
        on_device(corpus, TrainConfig(corpus_on_device="yes"), "cuda")


def test_unchanged_is_no_change():
    assert not module.UNCHANGED.moves and Change(False, np.eye(2), np.ones(2), np.ones(3), 240).moves
