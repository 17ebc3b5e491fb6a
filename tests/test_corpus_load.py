"""A corpus comes back into memory as it was written."""

import json
import logging
import tarfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from mofaface.corpus import CorpusError, describe_corpus, load_corpus
from mofaface.corpus.config import CorpusConfig
from mofaface.corpus.index import claim_folder, content_config, finish_index, write_part
from mofaface.corpus.load import with_sound_crops
from mofaface.corpus.sample import VERSION, Sample, Task, encode_jpeg
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
    file.write_text(file.read_text().replace(f'"version": {VERSION}', '"version": 7'))
    with pytest.raises(CorpusError, match="version 7"):
        load_corpus(corpus, "train")
    with pytest.raises(CorpusError, match="differs in version"):
        claim_folder(corpus, json.loads(file.read_text())["config"])


def test_a_missing_shard_is_named(corpus: Path):
    (corpus / "train-000000.tar").unlink()
    with pytest.raises(CorpusError, match="train-000000.tar"):
        load_corpus(corpus, "train")


def flip_header(path: Path, number: int) -> None:
    """Flip a byte in the header of a member."""
    with tarfile.open(path) as archive:
        start = archive.getmembers()[number].offset
    data = bytearray(path.read_bytes())
    data[start + 3] ^= 0xFF
    path.write_bytes(bytes(data))


def truncate(path: Path) -> None:
    """Cut the file in the last picture."""
    with tarfile.open(path) as archive:
        start = archive.getmembers()[4].offset_data
    path.write_bytes(path.read_bytes()[: start + 100])


def flip_metadata(path: Path) -> None:
    """Break the JSON of the middle sample."""
    path.write_bytes(path.read_bytes().replace(b'"key": "set-1"', b'"key"; "set-1"'))


def leave_out_landmarks(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"landmarks_68", b"landmarks_69", 1))


DAMAGES = {
    "truncated": (truncate, ("set-0", "set-1"), "damaged"),
    "header of a picture": (lambda path: flip_header(path, 2), ("set-0", "set-2"), "damaged"),
    "header of metadata": (lambda path: flip_header(path, 3), ("set-0", "set-2"), "damaged"),
    "metadata": (flip_metadata, ("set-0", "set-2"), "damaged"),
    "landmarks": (leave_out_landmarks, ("set-1", "set-2"), "damaged"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_left_out_and_told(corpus: Path, damage: str, caplog):
    spoil, left, what = DAMAGES[damage]
    shard = corpus / "train-000000.tar"
    spoil(shard)
    with caplog.at_level(logging.WARNING, "mofaface"):
        split = load_corpus(corpus, "train", skip_damaged=True)
    assert split.keys == left
    (record,) = caplog.records
    assert f"{shard} is {what}: 1 of its 3 crops are lost" in record.getMessage()
    assert "run the same `mofaface corpus build`" in record.getMessage()
    assert np.abs(split.image(1).astype(int) - PIXELS).max() <= 2


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "landmarks"])
def test_damage_is_an_error_unless_it_may_be_skipped(corpus: Path, damage: str):
    DAMAGES[damage][0](corpus / "train-000000.tar")
    with pytest.raises(CorpusError, match="train-000000.tar is .*corpus.json"):
        load_corpus(corpus, "train", skip_damaged=False)


def test_when_nothing_is_left_it_is_an_error(corpus: Path):
    (corpus / "train-000000.tar").unlink()
    with pytest.raises(CorpusError, match="No train crop of .* damaged or missing; delete corpus.json"):
        load_corpus(corpus, "train", skip_damaged=True)


def test_a_missing_shard_of_several_is_left_out_and_told(corpus: Path, caplog):
    summary = json.loads((corpus / "corpus.json").read_text())
    summary["shards"].append("train-000001.tar")
    (corpus / "corpus.json").write_text(json.dumps(summary))
    with open(corpus / "index.jsonl", "a") as file:
        file.write(json.dumps({"shard": "train-000001.tar"}) + "\n")
    with caplog.at_level(logging.WARNING, "mofaface"):
        assert len(load_corpus(corpus, "train", skip_damaged=True)) == 3
    assert "train-000001.tar is missing: 1 of its 1 crops are lost and left out" in caplog.text


def test_without_an_index_nobody_knows_what_is_missing(corpus: Path):
    (corpus / "index.jsonl").unlink()
    assert len(load_corpus(corpus, "train", skip_damaged=True)) == 3
    flip_metadata(corpus / "train-000000.tar")
    with pytest.raises(CorpusError, match="not a whole shard"):
        load_corpus(corpus, "train", skip_damaged=True)


BAD_JPEGS = {
    "no bytes": b"",
    "no JPEG": b"nonsense",
    "cut in its header": encode_jpeg(PIXELS)[:100],
    "another size": cv2.imencode(".jpg", PIXELS[:120])[1].tobytes(),
}


@pytest.mark.parametrize("jpeg", BAD_JPEGS.values(), ids=BAD_JPEGS)
def test_a_crop_that_cannot_be_decoded_is_replaced_by_the_next_and_told_once(
    corpus: Path, jpeg: bytes, caplog
):
    whole = load_corpus(corpus, "train")
    split = replace(whole, jpegs=(whole.jpegs[0], whole.jpegs[1], jpeg))
    with caplog.at_level(logging.WARNING, "mofaface"):
        numbers = [split.sound_image(i)[0] for i in (0, 1, 2, 2)]
    assert numbers == [0, 1, 0, 0]
    (record,) = caplog.records
    assert "the crop set-2 is damaged" in record.getMessage() and "corpus build" in record.getMessage()
    sound = with_sound_crops(replace(split, codes=np.arange(3, dtype=np.float32)[:, None]))
    assert sound.codes.tolist() == [[0], [1], [0]]
    assert len(sound) == 3 and sound.jpegs[2] == whole.jpegs[0] and (sound.landmarks[2] == 0).all()
    with pytest.raises(CorpusError, match="set-2 is damaged; build the corpus again"):
        split.image(2)


def test_when_no_crop_can_be_decoded_it_is_an_error(corpus: Path):
    split = replace(load_corpus(corpus, "train"), jpegs=(b"",) * 3)
    with pytest.raises(CorpusError, match="None of the 3 crops can be decoded"):
        split.sound_image(1)
