"""A corpus comes back into memory as it was written."""

import json
from pathlib import Path

import numpy as np
import pytest

from mofaface.corpus import CorpusError, describe_corpus, load_corpus
from mofaface.corpus.config import CorpusConfig
from mofaface.corpus.index import claim_folder, content_config, finish_index, write_part
from mofaface.corpus.sample import Sample, Task, encode_jpeg
from mofaface.corpus.shards import write_shard
from mofaface.corpus.sources import Item

PIXELS = np.full((240, 240, 3), (200, 100, 50), np.uint8)


def sample(i: int) -> Sample:
    meta = {
        "key": f"set-{i}", "source": "set", "name": f"{i}.jpg", "person": f"person {i}", "split": "train",
        "landmarks_68": np.full((68, 2), float(i)).tolist(), "confidence_68": [0.5] * 68,
        "score": 0.9, "presence": 18.0, "disagreement": 0.01, "yaw": 0.1 * i,
    }  # fmt: skip
    return Sample(f"set-{i}", meta, encode_jpeg(PIXELS))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    config = CorpusConfig(images=(tmp_path,), out=tmp_path / "corpus")
    samples = [sample(i) for i in range(3)]
    tasks = [Task(s.key, "set", s.meta["person"], "train", Item(s.meta["name"], tmp_path)) for s in samples]
    content = content_config(config, tasks)
    claim_folder(config.out, content)
    write_part(config.out, "train-000000", tasks, samples)
    write_shard(config.out / "train-000000.tar", samples)
    finish_index(config.out, content, ["train-000000"])
    return config.out


def test_crops_landmarks_and_names_come_back(corpus: Path):
    split = load_corpus(corpus, "train")
    assert len(split) == 3 and split.keys == ("set-0", "set-1", "set-2") and split.persons[2] == "person 2"
    assert split.names == ("0.jpg", "1.jpg", "2.jpg")
    assert split.landmarks.shape == (3, 68, 2) and (split.landmarks[2] == 2.0).all()
    assert split.landmarks.dtype == split.confidence.dtype == np.float32
    assert np.abs(split.image(1).astype(int) - PIXELS).max() <= 2


def test_a_corpus_without_a_digest_of_its_photographs_is_read(corpus: Path):
    file = corpus / "corpus.json"
    summary = json.loads(file.read_text())
    del summary["config"]["photographs"]
    file.write_text(json.dumps(summary))
    assert len(load_corpus(corpus, "train")) == 3 and "train: 3 crops" in describe_corpus(corpus)


def test_a_split_without_crops_says_what_to_do(corpus: Path):
    with pytest.raises(CorpusError, match="validation_fraction"):
        load_corpus(corpus, "validation")


def test_what_is_no_corpus_says_how_to_make_one(tmp_path: Path):
    with pytest.raises(CorpusError, match="mofaface corpus build"):
        load_corpus(tmp_path, "train")


def test_another_version_is_refused(corpus: Path):
    file = corpus / "corpus.json"
    file.write_text(file.read_text().replace('"version": 1', '"version": 7'))
    with pytest.raises(CorpusError, match="version 7"):
        load_corpus(corpus, "train")


def test_a_missing_shard_is_named(corpus: Path):
    (corpus / "train-000000.tar").unlink()
    with pytest.raises(CorpusError, match="train-000000.tar"):
        load_corpus(corpus, "train")
