"""The layouts in which people have the usual collections on disk, and what each tells about who is who.

An adapter turns a folder or archive into (item, person) pairs. A person is the unit of the split. Where
nothing is known about persons, every photo is its own.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from mofaface.corpus.config import AdapterName, CorpusError
from mofaface.corpus.sources import Item, list_frames, list_images, source_name

Pairs = Iterator[tuple[Item, str]]
# Name_0001.jpg of LFW and Name_01.jpg of YouTube Faces name the same people, so the person carries no source.
NUMBERED_NAME = re.compile(r"^(?P<person>[^\d/][^/]*)_(?P<number>\d{2,4})\.[^./]+$")
UTKFACE_NAME = re.compile(r"^\d{1,3}_[01]_([0-4]_)?\d{14,}")
CELEBA_NAME = re.compile(r"^\d{6}\.(jpg|png)$")
FACEWAREHOUSE_NAME = re.compile(r"(?:^|/)(?P<person>Tester_\d+)/TrainingPose/pose_\d+\.[^./]+$")
VIDEO_SUFFIXES = frozenset((".avi", ".mp4", ".mov", ".mkv"))
VIDEO_300VW = re.compile(r"(?:^|/)\d{3}/vid\.[^./]+$")


def pairs_of(path: Path, adapter: AdapterName, frame_step: int) -> list[tuple[Item, str]]:
    """Every picture of a folder or archive with its person; CorpusError where the layout holds none."""
    chosen = recognise(path) if adapter == "auto" else adapter
    pairs = list(_ADAPTERS[chosen](path)) if chosen != "300vw" else list(_read_300vw(path, frame_step))
    if not pairs:
        raise CorpusError(
            f"{path} holds no picture in the layout {chosen!r}; check the folder, or name another adapter."
        )
    return pairs


def recognise(path: Path) -> AdapterName:
    """The layout of a folder or archive by its names."""
    names = [item.name for item in list_images(path)]
    videos = [video.relative_to(path).as_posix() for video in _videos(path)] if path.is_dir() else []
    # A clip among photographs must not cost the photographs.
    if videos and (not names or all(VIDEO_300VW.search(video) for video in videos)):
        return "300vw"
    most = 0.9 * len(names)
    stems = [PurePosixPath(name).name for name in names]
    if sum(bool(FACEWAREHOUSE_NAME.search(name)) for name in names) > 0:
        return "facewarehouse"
    if "celeba" in str(path).lower() and sum(bool(CELEBA_NAME.match(stem)) for stem in stems) > most:
        return "celeba"
    if sum(bool(UTKFACE_NAME.match(stem)) for stem in stems) > most:
        return "utkface"
    if "youtube" in str(path).lower() or "frame_images_DB" in str(path):
        return "youtube"
    if names and sum(bool(re.search(r"_\d{4}\.[^./]+$", stem)) for stem in stems) > most:
        return "lfw"
    return "folder"


def _read_celeba(path: Path) -> Pairs:
    """img_align_celeba/000001.jpg, with identity_CelebA.txt ("000001.jpg 2880" a line) beside or above it."""
    identity = _celeba_identities(path)
    for item in list_images(path):
        stem = PurePosixPath(item.name).name
        yield item, f"celeba:{identity.get(stem, 'photo ' + stem)}"


def _celeba_identities(path: Path) -> dict[str, str]:
    for folder in (path, path.parent, path / "Anno", path.parent / "Anno"):
        file = folder / "identity_CelebA.txt"
        if file.is_file():
            rows = (line.split() for line in file.read_text(encoding="utf-8-sig").splitlines())
            return {row[0]: row[1] for row in rows if len(row) == 2}
    return {}


def _read_named(path: Path) -> Pairs:
    """lfw/Name/Name_0001.jpg or Name_0001.jpg: the name before the number."""
    for item in list_images(path):
        stem = PurePosixPath(item.name).name
        match = NUMBERED_NAME.match(stem)
        yield item, match["person"] if match else _own(path, item)


def _read_youtube(path: Path) -> Pairs:
    """Name/video/frame.jpg as distributed, or Name_01.jpg."""
    for item in list_images(path):
        parts = [part for part in PurePosixPath(item.name).parts if part != "frame_images_DB"]
        match = NUMBERED_NAME.match(parts[-1])
        yield item, parts[0] if len(parts) > 1 else match["person"] if match else _own(path, item)


def _read_facewarehouse(path: Path) -> Pairs:
    """Tester_1/TrainingPose/pose_0.png: the photographs, not the renderings and depth maps around them."""
    for item in list_images(path):
        match = FACEWAREHOUSE_NAME.search(item.name)
        if match:
            yield item, f"facewarehouse:{match['person']}"


def _read_300vw(path: Path, step: int) -> Pairs:
    """300VW_Dataset/001/vid.avi: every so many frames; one video, one person."""
    for video in _videos(path):
        name = video.parent.relative_to(path).as_posix()
        name = video.stem if name == "." else name
        for item in list_frames(video, name, step):
            yield item, f"300vw:{name}"


def _videos(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.suffix.lower() in VIDEO_SUFFIXES)


def _read_single(path: Path) -> Pairs:
    """Photos that say nothing about persons."""
    for item in list_images(path):
        yield item, _own(path, item)


def _read_folder(path: Path) -> Pairs:
    """Any folder: what lies in one sub-folder is one person (or not to be split); others are on their own."""
    for item in list_images(path):
        folder = PurePosixPath(item.name).parent.as_posix()
        yield item, _own(path, item) if folder == "." else f"{source_name(path)}:{folder}"


def _own(path: Path, item: Item) -> str:
    return f"{source_name(path)}:{PurePosixPath(item.name).with_suffix('').as_posix()}"


_ADAPTERS: dict[str, Callable[[Path], Pairs]] = {
    "celeba": _read_celeba,
    "lfw": _read_named,
    "facewarehouse": _read_facewarehouse,
    "utkface": _read_single,
    "youtube": _read_youtube,
    "folder": _read_folder,
}
