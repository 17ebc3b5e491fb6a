"""Folders and archives give the same pictures; what cannot be read is named."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mofaface.corpus import CorpusError, iterate_images
from mofaface.corpus.sources import list_images, source_name
from mofaface.photo import read_photo


def photos(folder: Path) -> Path:
    folder.mkdir()
    for level, name in ((10, "a.png"), (90, "b.png")):
        Image.new("RGB", (20, 20), (level, level, level)).save(folder / name)
    (folder / "readme.txt").write_text("no picture")
    (folder / "._a.png").write_bytes(b"a macOS shadow file")
    return folder


def test_folder_and_archive_give_the_same_pictures(tmp_path: Path):
    folder = photos(tmp_path / "photos")
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        archive.add(folder, ".")
    for path in (folder, tmp_path / "photos.tar"):
        found = {name: read_photo(source).pixels.mean() for name, source in iterate_images(path)}
        assert found == {"a.png": 10.0, "b.png": 90.0}
        assert [int(item.read().pixels.mean()) for item in list_images(path)] == [10, 90]
        assert source_name(path) == "photos"


def test_members_of_one_name_are_all_read(tmp_path: Path):
    folder = photos(tmp_path / "photos")
    with tarfile.open(tmp_path / "twice.tar", "w") as archive:
        archive.add(folder / "a.png", "same.png")
        archive.add(folder / "b.png", "same.png")
    assert [int(item.read().pixels[0, 0, 0]) for item in list_images(tmp_path / "twice.tar")] == [10, 90]


def test_an_item_can_be_read_from_any_process(tmp_path: Path):
    import pickle

    item = list_images(photos(tmp_path / "photos"))[0]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(item)).read().pixels, item.read().pixels)


def test_what_cannot_be_listed_is_named(tmp_path: Path):
    (tmp_path / "broken.tar").write_bytes(b"this is no archive" * 100)
    (tmp_path / "photo.jpg").write_bytes(b"x")
    for name, words in (
        ("none", "does not exist"),
        ("broken.tar", "unpack it"),
        ("photo.jpg", "neither a folder"),
    ):
        with pytest.raises(CorpusError, match=words):
            list_images(tmp_path / name)
