"""Each collection's layout tells who is who."""

import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from mofaface.corpus import CorpusError
from mofaface.corpus.adapters import pairs_of, recognise


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    return folder


def persons(path: Path, adapter: str = "auto") -> dict[str, str]:
    return {item.name: person for item, person in pairs_of(path, adapter, 10)}  # type: ignore[arg-type]


def test_celeba_with_its_identity_file(tmp_path: Path):
    touch(tmp_path / "celeba", "img_align_celeba/000001.jpg", "img_align_celeba/000002.jpg")
    (tmp_path / "celeba" / "identity_CelebA.txt").write_text("000001.jpg 2880\n000002.jpg 2880\n")
    assert set(persons(tmp_path / "celeba").values()) == {"celeba:2880"}
    assert set(persons(tmp_path / "celeba" / "img_align_celeba").values()) == {"celeba:2880"}


def test_celeba_without_identities_takes_each_photo_as_a_person(tmp_path: Path):
    assert len(set(persons(touch(tmp_path / "celeba", "000001.jpg", "000002.jpg")).values())) == 2


def test_lfw_in_folders_and_flat(tmp_path: Path):
    nested = touch(
        tmp_path / "lfw", "Ann_Lee/Ann_Lee_0001.jpg", "Ann_Lee/Ann_Lee_0002.jpg", "Bo_Li/Bo_Li_0001.jpg"
    )
    flat = touch(tmp_path / "flat", "Ann_Lee_0001.jpg", "Bo_Li_0001.jpg")
    assert (
        sorted(set(persons(nested).values())) == sorted(set(persons(flat).values())) == ["Ann_Lee", "Bo_Li"]
    )
    assert recognise(nested) == recognise(flat) == "lfw"


def test_youtube_faces_as_distributed_and_flat_name_the_same_people_as_lfw(tmp_path: Path):
    original = touch(tmp_path / "youtube", "frame_images_DB/Ann_Lee/0/0.123.jpg")
    flat = touch(tmp_path / "youtube_flat", "Ann_Lee_07.jpg")
    assert set(persons(original).values()) == set(persons(flat).values()) == {"Ann_Lee"}


def test_facewarehouse_takes_the_photos_only(tmp_path: Path):
    names = (
        "Tester_1/TrainingPose/pose_0.png",
        "Tester_1/Blendshape/preview.png",
        "Tester_12/TrainingPose/pose_3.png",
    )
    found = persons(touch(tmp_path / "fw", *names))
    assert sorted(found.values()) == ["facewarehouse:Tester_1", "facewarehouse:Tester_12"]
    assert set(found) == {names[0], names[2]}


def test_utkface_and_plain_folders_take_each_photo_as_a_person(tmp_path: Path):
    utk = touch(tmp_path / "utk", "100_1_2_20170105174847679.jpg", "12_0_20170110224843637.jpg")
    plain = touch(tmp_path / "plain", "a.jpg", "b.png", "notes.txt")
    assert recognise(utk) == "utkface" and recognise(plain) == "folder"
    assert len(set(persons(utk).values())) == len(set(persons(plain).values())) == 2


def test_a_sub_folder_of_a_plain_folder_is_never_parted(tmp_path: Path):
    found = persons(touch(tmp_path / "album", "anna/1.jpg", "anna/2.jpg", "bo/1.jpg"))
    assert found["anna/1.jpg"] == found["anna/2.jpg"] != found["bo/1.jpg"]


def test_300vw_gives_every_so_many_frames_of_each_video(tmp_path: Path):
    folder = tmp_path / "300VW_Dataset" / "001"
    folder.mkdir(parents=True)
    writer = cv2.VideoWriter(str(folder / "vid.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for level in range(0, 250, 10):
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    pairs = pairs_of(tmp_path / "300VW_Dataset", "auto", 10)
    assert [item.name for item, _ in pairs] == ["001/000000", "001/000010", "001/000020"]
    assert {person for _, person in pairs} == {"300vw:001"}
    assert [round(pairs[i][0].read().pixels.mean(), -1) for i in range(3)] == [0, 100, 200]


def test_a_clip_among_photos_leaves_the_photos(tmp_path: Path):
    album = touch(tmp_path / "album", "a.jpg", "b.png", "clip.mp4", "001/vid.mp4")
    assert recognise(album) == "folder" and persons(album).keys() == {"a.jpg", "b.png"}


def test_300vw_is_known_by_its_names_or_by_videos_alone(tmp_path: Path):
    assert recognise(touch(tmp_path / "vw", "001/vid.avi", "114/vid.avi", "preview.png")) == "300vw"
    assert recognise(touch(tmp_path / "clips", "anna.mp4", "ben.mov")) == "300vw"


def test_an_archive_names_persons_like_the_folder(tmp_path: Path):
    folder = touch(tmp_path / "lfw", "Ann_Lee_0001.jpg", "Bo_Li_0001.jpg")
    with tarfile.open(tmp_path / "lfw.tar", "w") as archive:
        archive.add(folder, ".")
    assert persons(folder) == persons(tmp_path / "lfw.tar")


def test_a_wrong_adapter_or_an_empty_folder_is_a_sentence(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    for path, adapter in (
        (tmp_path / "empty", "auto"),
        (touch(tmp_path / "plain", "a.jpg"), "facewarehouse"),
    ):
        with pytest.raises(CorpusError, match="holds no picture"):
            persons(path, adapter)
