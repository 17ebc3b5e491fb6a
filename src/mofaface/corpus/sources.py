"""Where photographs come from: folders, tar archives and videos, as items that any process can read."""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from jaxtyping import UInt8

from mofaface.corpus.config import CorpusError
from mofaface.photo import Photo, PhotoError, read_photo

IMAGE_SUFFIXES = frozenset(".jpg .jpeg .png .bmp .webp .tif .tiff .ppm .pgm .gif .heic .avif".split())
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


@dataclass(frozen=True)
class Item:
    """One photo to be: a file, a member of an archive (by place: names may repeat) or a frame of a video."""

    name: str
    """Path inside its source, with forward slashes."""
    path: Path
    offset: int = -1
    """First byte inside an uncompressed archive; -1 for a file of its own."""
    size: int = 0
    frame: int = -1
    """Number of the video frame; -1 for a picture."""

    def read(self) -> Photo:
        """The photo itself; PhotoError where it cannot be read."""
        if self.frame >= 0:
            return Photo(_read_frame(self.path, self.frame), self.name)
        if self.offset < 0:
            return read_photo(self.path)
        return read_photo(self.read_bytes())

    def read_bytes(self) -> bytes:
        """The encoded picture."""
        with open(self.path, "rb") as file:
            file.seek(max(self.offset, 0))
            return file.read(self.size if self.offset >= 0 else -1)


def is_tar(path: Path) -> bool:
    """Whether a path is an archive by its name."""
    return path.name.lower().endswith(TAR_SUFFIXES)


def source_name(path: Path) -> str:
    """What a folder or archive is called in the corpus: its name without suffixes."""
    return path.resolve().name.split(".")[0] or "images"


def list_images(path: Path) -> list[Item]:
    """All pictures of a folder (with its sub-folders) or archive, by name."""
    if path.is_dir():
        return [
            Item(file.relative_to(path).as_posix(), file)
            for file in sorted(path.rglob("*"))
            if _is_image(file.name)
        ]
    if not path.exists():
        raise CorpusError(f"{path} does not exist; give a folder or tar archive of images.")
    if not is_tar(path):
        raise CorpusError(
            f"{path} is neither a folder nor a tar archive; give the folder that holds the images."
        )
    return _list_tar(path)


def _list_tar(path: Path) -> list[Item]:
    try:
        with tarfile.open(path, "r:") as archive:
            members = [m for m in archive if m.isfile() and _is_image(m.name)]
    except tarfile.TarError as error:
        raise CorpusError(
            f"{path} cannot be read as an uncompressed tar archive ({error}); unpack it (tar xf) "
            "and give the folder."
        ) from None
    except OSError as error:
        raise CorpusError(f"{path} cannot be read ({error}).") from None
    items = [Item(m.name.removeprefix("./"), path, m.offset_data, m.size) for m in members]
    return sorted(items, key=lambda item: (item.name, item.offset))


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("._")


def list_frames(video: Path, name: str, step: int) -> list[Item]:
    """Every `step`-th frame of a video."""
    capture = cv2.VideoCapture(str(video))
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    return [Item(f"{name}/{frame:06d}", video, frame=frame) for frame in range(0, max(count, 0), step)]


def _read_frame(video: Path, frame: int) -> UInt8[np.ndarray, "height width 3"]:
    capture = cv2.VideoCapture(str(video))
    try:
        capture.set(cv2.CAP_PROP_POS_FRAMES, frame)
        good, picture = capture.read()
    finally:
        capture.release()
    if not good:
        raise PhotoError(f"{video}: frame {frame} cannot be decoded; convert the video again.")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def iterate_images(path: Path) -> Iterator[tuple[str, Path | bytes]]:
    """Name and readable source (a path, or encoded bytes) of every picture in a folder or archive."""
    for item in list_images(path):
        yield item.name, (item.path if item.offset < 0 else item.read_bytes())
