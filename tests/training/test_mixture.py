"""Photographs and rendered faces in one run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from little_corpus import corpus_in_memory
from little_face import LITTLE

from mofaface.encoders import EncoderConfig
from mofaface.losses import LossWeights
from mofaface.training.config import NO_AUGMENTATION, Augmentation, TrainConfig
from mofaface.training.loop import load_training, prepare
from mofaface.training.mixture import mixture
from mofaface.training.trainer import ALONE


@pytest.fixture
def splits():
    """Five photographs and eight rendered faces, told apart by their sources and codes."""
    photographs, rendered = corpus_in_memory(5), corpus_in_memory(8)
    codes = np.ones((8, 257), np.float32)
    return photographs, replace(rendered, sources=("synthetic",) * 8, codes=codes)


def test_there_are_as_many_rendered_faces_as_photographs(splits):
    photographs, rendered = splits
    both = mixture(photographs, rendered, believe=True)
    assert (
        len(both) == 10 and both.sources[:5] == photographs.sources and both.sources[5:] == ("synthetic",) * 5
    )
    assert both.codes is None
    np.testing.assert_array_equal(both.landmarks[5:], rendered.landmarks[:5])
    np.testing.assert_array_equal(both.confidence[:5], photographs.confidence)
    np.testing.assert_array_equal(both.image(7), rendered.image(2))


def test_few_rendered_faces_are_all_taken(splits):
    photographs, rendered = splits
    assert len(mixture(rendered, photographs, believe=True)) == 13


def test_photographs_that_are_not_believed_have_no_say_in_the_landmarks(splits):
    photographs, rendered = splits
    both = mixture(photographs, rendered, believe=False)
    assert not both.confidence[:5].any() and both.confidence[5:].any()
    assert photographs.confidence.any()


def test_alone_the_photographs_stay_as_they_are(splits):
    assert mixture(splits[0], None, believe=True) is splits[0]


def test_true_codes_need_rendered_faces_that_are_not_moved(splits, monkeypatch):
    photographs, rendered = splits
    known = {Path("photos"): photographs, Path("rendered"): rendered}
    monkeypatch.setattr("mofaface.training.loop.load_corpus", lambda path, split, skip_damaged: known[path])
    config = TrainConfig(Path("photos"), weights=LossWeights(truth=1), augmentation=NO_AUGMENTATION)
    with pytest.raises(ValueError, match="leave --rendered out"):
        load_training(replace(config, corpus=Path("rendered"), rendered=Path("rendered")))
    with pytest.raises(ValueError, match="photos has photographs"):
        load_training(config)
    with pytest.raises(ValueError, match="neither mirrored nor moved"):
        load_training(replace(config, corpus=Path("rendered"), augmentation=Augmentation()))
    assert load_training(replace(config, corpus=Path("rendered"))).codes is not None


def test_codes_of_another_face_model_are_refused(splits, monkeypatch, model_path):
    codes = np.ones((8, LITTLE.size), np.float32)
    foreign = replace(splits[1], codes=codes, code_model={"digest": "another"})
    monkeypatch.setattr("mofaface.training.loop.load_corpus", lambda path, split, skip_damaged: foreign)
    config = TrainConfig(
        Path("rendered"),
        model=str(model_path),
        weights=LossWeights(truth=1),
        augmentation=NO_AUGMENTATION,
        encoder=EncoderConfig(input_size=32),
        mesh="full",
    )
    with pytest.raises(ValueError, match="the true codes of rendered are of another face model"):
        prepare(config, False, ALONE)
