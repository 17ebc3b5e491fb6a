"""One photo becomes a crop with landmarks, or a reason."""

import io
from pathlib import Path

import numpy as np
import pytest
from corpus_photos import collection
from face_photos import EXAMPLES, needs_examples
from PIL import Image

from mofaface.corpus.config import Pruning
from mofaface.corpus.sample import Sample, Task, encode_jpeg, make_sample
from mofaface.corpus.sources import Item
from mofaface.similarity import Similarity

pytestmark = needs_examples
PATH = EXAMPLES / "congress_C001072.jpg"


def sample_of(path: Path, **pruning: float) -> Sample:
    return make_sample(Task("k", "s", "p", "train", Item(path.name, path)), "yunet", Pruning(**pruning))


def test_a_face_gives_a_crop_with_landmarks_on_it():
    sample = sample_of(PATH)
    landmarks = np.array(sample.meta["landmarks_68"])
    assert Image.open(io.BytesIO(sample.jpeg)).size == (240, 240)
    assert np.abs(landmarks.mean(0) - 120).max() < 15 and landmarks.shape == (68, 2)
    assert sample.meta["person"] == "p" and min(sample.meta["confidence_68"][17:]) > 0.3


def test_the_transform_leads_back_to_the_photo():
    meta = sample_of(PATH).meta
    eyes_photo = Similarity(**meta["photo_from_crop"]).apply(np.array(meta["landmarks_68"])[[36, 45]])
    x, y, width, height = meta["box"]
    assert ((eyes_photo > [x, y]) & (eyes_photo < [x + width, y + height])).all()


@pytest.mark.parametrize(
    ("pruning", "kind"),
    [
        ({"min_face": 9999.0}, "small face"),
        ({"score": 0.999}, "doubtful detection"),
        ({"presence": 99.0}, "no face for the landmarks"),
        ({"disagreement": 0.0}, "passes disagree"),
        ({"outside": -1}, "face outside the crop"),
        ({"off_centre": 0.0}, "detector and landmarks disagree"),
    ],
)
def test_each_rule_of_pruning_names_itself(pruning: dict[str, float], kind: str):
    sample = sample_of(PATH, **pruning)
    assert (sample.jpeg, sample.kind) == (b"", kind) and sample.reason


def test_bad_files_are_reasons_not_exceptions(tmp_path: Path):
    folder = collection(tmp_path / "photos")
    kinds = {name: sample_of(folder / name).kind for name in ("broken.jpg", "noise.png", "missing.jpg")}
    assert kinds == {"broken.jpg": "unreadable", "noise.png": "no face", "missing.jpg": "unreadable"}


def test_the_jpeg_keeps_colour_at_full_resolution():
    stripes = np.zeros((240, 240, 3), np.uint8)
    stripes[:, ::2, 0], stripes[:, 1::2, 2] = 255, 255
    decoded = np.asarray(Image.open(io.BytesIO(encode_jpeg(stripes))).convert("RGB")).astype(int)
    assert np.abs(decoded - stripes).mean() < 8
