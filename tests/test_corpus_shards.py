"""Shards are whole, equal for equal samples, and readable by WebDataset."""

import tarfile
from pathlib import Path

import pytest

from mofaface.corpus import CorpusError
from mofaface.corpus.sample import Sample
from mofaface.corpus.shards import read_shard, write_shard, write_text

SAMPLES = [Sample(f"set-{i}", {"key": f"set-{i}", "value": i / 3}, bytes([i]) * 100) for i in range(3)]


def test_what_is_written_is_read_back(tmp_path: Path):
    write_shard(tmp_path / "train-000000.tar", SAMPLES)
    assert list(read_shard(tmp_path / "train-000000.tar")) == [(s.jpeg, s.meta) for s in SAMPLES]


def test_members_are_named_as_webdataset_expects(tmp_path: Path):
    write_shard(tmp_path / "a.tar", SAMPLES)
    with tarfile.open(tmp_path / "a.tar") as archive:
        assert archive.getnames()[:2] == ["set-0.jpg", "set-0.json"]


@pytest.mark.filterwarnings("ignore")
def test_webdataset_streams_the_same_samples(tmp_path: Path):
    webdataset = pytest.importorskip("webdataset")
    write_shard(tmp_path / "a.tar", SAMPLES)
    streamed = list(webdataset.WebDataset(str(tmp_path / "a.tar"), shardshuffle=False))
    assert [(s["__key__"], s["jpg"]) for s in streamed] == [(s.key, s.jpeg) for s in SAMPLES]


def test_equal_samples_give_equal_bytes(tmp_path: Path):
    for name in ("a.tar", "b.tar"):
        write_shard(tmp_path / name, SAMPLES)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_an_interrupted_write_leaves_nothing(tmp_path: Path):
    def interrupted():
        yield SAMPLES[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shard(tmp_path / "a.tar", interrupted())
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_shard_is_named(tmp_path: Path):
    write_shard(tmp_path / "a.tar", SAMPLES)
    data = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(data[:700])
    with pytest.raises(CorpusError, match="not a whole shard"):
        list(read_shard(tmp_path / "a.tar"))


def test_text_replaces_text_whole(tmp_path: Path):
    write_text(tmp_path / "index.jsonl", "old")
    write_text(tmp_path / "index.jsonl", "new")
    assert (tmp_path / "index.jsonl").read_text() == "new" and len(list(tmp_path.iterdir())) == 1
