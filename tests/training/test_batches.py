"""Which photographs an iteration sees and how they are changed."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from little_corpus import corpus_in_memory

from mofaface.landmarks import LANDMARKS_46, MIRROR_68
from mofaface.training.batches import batches, change_crop, chosen, draw_changes, make_batch
from mofaface.training.config import NO_AUGMENTATION, Augmentation

PLACES_ONLY = Augmentation(colour=0, blur=0)


def rng(seed=0):
    return np.random.default_rng(seed)


def augment(image, landmarks, how, random):
    """A crop and its landmarks, changed at random."""
    return change_crop(image, landmarks, draw_changes(how, random, 1)[0])


@pytest.mark.parametrize("count, batch", [(10, 5), (7, 3), (20, 8), (3, 8), (1, 4)])
def test_every_photo_comes_exactly_once_in_every_epoch(count, batch):
    iterations = 4 * count  # then the whole number of epochs below fits
    order = [i for iteration in range(iterations) for i in chosen(count, batch, 3, iteration)]
    assert len(order) == iterations * batch
    for first in range(0, len(order) - count + 1, count):
        assert sorted(order[first : first + count]) == list(range(count))


def test_order_differs_between_epochs_and_seeds():
    def epoch(seed, number):
        return chosen(50, 50, seed, number)

    assert epoch(0, 0) != epoch(0, 1) and epoch(0, 0) != epoch(1, 0)


def test_no_augmentation_is_the_identity():
    corpus = corpus_in_memory(2)
    for seed in range(20):
        image, landmarks = augment(corpus.image(0), corpus.landmarks[0], NO_AUGMENTATION, rng(seed))
        assert (image == corpus.image(0)).all() and (landmarks == corpus.landmarks[0]).all()


def dots(landmarks):
    """A black picture with a soft white dot at each place, and the function that finds a dot again."""
    y, x = np.mgrid[:240, :240] + 0.5
    picture = np.zeros((240, 240))
    for u, v in landmarks:
        picture = np.maximum(picture, np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * 2.5**2)))
    return np.repeat((255 * picture).round().astype(np.uint8)[..., None], 3, axis=2)


def find_dot(image, near):
    """The centre of mass of the picture within 12 pixels of a place."""
    y, x = np.mgrid[:240, :240] + 0.5
    weight = image[..., 0] * (np.hypot(x - near[0], y - near[1]) < 12).astype(float)
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


@pytest.mark.parametrize(
    "how", [PLACES_ONLY, Augmentation(colour=0, blur=1), Augmentation(0, 0, 0, True, 0, 1), Augmentation()]
)
@pytest.mark.parametrize("seed", range(8))
def test_landmarks_follow_the_pixels(how, seed):
    spots = np.array([[80.3, 70.0], [160.0, 90.6], [120.2, 170.7], [60.0, 150.0]])
    landmarks = np.zeros((68, 2))
    landmarks[:] = spots[0]
    # Four landmarks on the middle line of the face, so that a mirror keeps their numbers.
    middle = [number for number in range(68) if MIRROR_68[number] == number][:4]
    landmarks[middle] = spots
    image, moved = augment(dots(spots), landmarks.astype(np.float32), how, rng(seed))
    for number in middle:
        assert np.linalg.norm(find_dot(image, moved[number]) - moved[number]) < 0.5


def test_mirror_swaps_left_and_right():
    corpus = corpus_in_memory(1)
    flip = Augmentation(0, 0, 0, True, 0, 0)
    results = [augment(corpus.image(0), corpus.landmarks[0], flip, rng(seed)) for seed in range(40)]
    mirrored = [(image, landmarks) for image, landmarks in results if (image != corpus.image(0)).any()]
    assert 10 < len(mirrored) < 30
    image, landmarks = mirrored[0]
    assert (image == corpus.image(0)[:, ::-1]).all()
    for number in (0, 17, 36, 48, 30):
        u, v = corpus.landmarks[0][MIRROR_68[number]]
        np.testing.assert_allclose(landmarks[number], (240 - u, v), atol=1e-4)


def test_mirror_then_blur_without_anything_else_works():
    corpus = corpus_in_memory(1)
    for seed in range(4):
        image, _ = augment(corpus.image(0), corpus.landmarks[0], Augmentation(0, 0, 0, True, 0, 1), rng(seed))
        assert image.shape == (240, 240, 3)


def test_colour_changes_brightness_and_no_place():
    corpus = corpus_in_memory(1)
    image, landmarks = augment(
        corpus.image(0), corpus.landmarks[0], Augmentation(0, 0, 0, False, 0.2, 0), rng(1)
    )
    assert (landmarks == corpus.landmarks[0]).all()
    before, after = corpus.image(0).astype(float).mean((0, 1)), image.astype(float).mean((0, 1))
    assert (np.abs(after / before - 1) > 0.01).any()
    assert np.corrcoef(corpus.image(0)[..., 0].ravel(), image[..., 0].ravel())[0, 1] > 0.99


def test_moves_are_as_large_as_the_recipe_says():
    corpus = corpus_in_memory(1)
    moved = np.stack(
        [
            augment(corpus.image(0), np.full((68, 2), 120.0), Augmentation(8, 0, 0, False, 0, 0), rng(s))[1][
                0
            ]
            for s in range(300)
        ]
    )
    assert np.abs(moved - 120).max() <= 16.0 + 1e-3
    assert np.abs(moved.std(0) - 8).max() < 1.2 and np.abs(moved.mean(0) - 120).max() < 1.5


def test_batch_holds_pictures_landmarks_and_confidences_of_the_chosen_photos():
    corpus = corpus_in_memory(4)
    batch = make_batch(corpus, [2, 0], NO_AUGMENTATION, [0])
    assert batch.image.shape == (2, 3, 240, 240) and batch.image.max() <= 1
    np.testing.assert_array_equal((255 * batch.image[0]).round().byte().permute(1, 2, 0), corpus.image(2))
    np.testing.assert_array_equal(batch.landmarks[1], corpus.landmarks[0][list(LANDMARKS_46)])
    assert (batch.confidence == 1).all() and batch.to("cpu").image is batch.image


def test_a_confidence_follows_its_landmark_into_the_mirror():
    corpus = corpus_in_memory(1)
    corpus = replace(corpus, confidence=corpus.landmarks[:, :, 0] / 240)
    flip = Augmentation(0, 0, 0, True, 0, 0)
    mirrored = 0
    for seed in range(12):
        batch = make_batch(corpus, [0], flip, [seed])
        x = torch.cat((batch.landmarks, batch.contour), 1)[0, :, 0] / 240
        sure = torch.cat((batch.confidence, batch.contour_confidence), 1)[0]
        turned = (x - sure).abs().max() > 1e-3
        mirrored += int(turned)
        torch.testing.assert_close(sure, 1 - x if turned else x, rtol=0, atol=1e-5)
    assert 0 < mirrored < 12


def same(a, b):
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in vars(a))


def test_batches_of_a_resumed_run_are_those_of_an_unbroken_one():
    corpus = corpus_in_memory(7)
    unbroken = list(batches(corpus, 3, Augmentation(), 5, 0, 6))
    resumed = list(batches(corpus, 3, Augmentation(), 5, 0, 2)) + list(
        batches(corpus, 3, Augmentation(), 5, 2, 6)
    )
    assert len(unbroken) == 6 and all(same(a, b) for a, b in zip(unbroken, resumed, strict=True))
    assert not same(unbroken[0], unbroken[1])


def test_stream_that_has_nothing_left_is_empty():
    assert list(batches(corpus_in_memory(2), 2, NO_AUGMENTATION, 0, 4, 4)) == []


def test_seed_changes_the_augmentation():
    corpus = corpus_in_memory(1)
    a, b = (make_batch(corpus, [0], Augmentation(), [seed, 0]) for seed in (0, 1))
    assert not torch.equal(a.image, b.image)
    assert cv2.norm(a.landmarks.numpy(), b.landmarks.numpy()) > 0
