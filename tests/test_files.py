"""Files that are there whole or not at all."""

import os
import stat

import pytest

from mofaface.files import write_text_whole, written_whole


@pytest.fixture
def umask():
    """Sets the process's mask of file modes, and puts the old one back."""
    old = os.umask(0)
    os.umask(old)
    yield os.umask
    os.umask(old)


@pytest.mark.parametrize("mask, mode", [(0o022, 0o644), (0o027, 0o640), (0o000, 0o666)])
def test_file_has_the_mode_of_any_new_file_however_private_the_writer_made_it(tmp_path, umask, mask, mode):
    umask(mask)
    with written_whole(tmp_path / "a.bin") as temporary:
        temporary.touch(mode=0o600)
    assert stat.S_IMODE((tmp_path / "a.bin").stat().st_mode) == mode
    assert os.umask(mask) == mask


def test_old_content_stands_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with written_whole(path) as temporary:
        temporary.write_text("new, and longer")
        assert path.read_text() == "old" and temporary.parent == tmp_path
    assert path.read_text() == "new, and longer" and list(tmp_path.iterdir()) == [path]


def test_reader_of_the_old_file_keeps_it_whole(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with path.open() as reader:
        with written_whole(path) as temporary:
            temporary.write_text("new")
        assert reader.read() == "old"


@pytest.mark.parametrize("trouble", [ValueError("half way"), KeyboardInterrupt()])
def test_failure_on_the_way_leaves_nothing_and_the_old_file_alone(tmp_path, trouble):
    path = tmp_path / "a.txt"
    for before in ([], [path]):
        with pytest.raises(type(trouble)), written_whole(path) as temporary:
            temporary.write_text("half")
            raise trouble
        assert list(tmp_path.iterdir()) == before
        path.write_text("old")
    assert path.read_text() == "old"


def test_block_that_writes_nothing_is_an_error_and_no_file(tmp_path):
    with pytest.raises(FileNotFoundError), written_whole(tmp_path / "a.txt"):
        pass
    assert not list(tmp_path.iterdir())


def test_text_is_written_in_utf8(tmp_path):
    write_text_whole(tmp_path / "a.txt", "Grüße")
    assert (tmp_path / "a.txt").read_bytes() == "Grüße".encode()


def test_text_that_cannot_be_written_says_where_and_what_to_do(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("old")
    for path in (tmp_path / "gone" / "a.txt", tmp_path / "folder", tmp_path / "file" / "a.txt"):
        with pytest.raises(
            OSError, match=f"{path} could not be written .*check its folder and the space there"
        ):
            write_text_whole(path, "text")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]
