"""Little collections of photos for the corpus tests."""

import shutil
import tarfile
from pathlib import Path

from face_photos import EXAMPLES

from mofaface.corpus import CorpusConfig


def collection(folder: Path) -> Path:
    """Six photos with faces, one without, and one that is damaged."""
    import cv2
    import numpy as np

    folder.mkdir()
    for path in sorted(EXAMPLES.glob("*.jpg")):
        shutil.copy(path, folder / path.name)
    cv2.imwrite(str(folder / "noise.png"), np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8))
    data = (EXAMPLES / "congress_C001072.jpg").read_bytes()
    (folder / "broken.jpg").write_bytes(data[: len(data) // 2])
    return folder


def as_tar(folder: Path, target: Path) -> Path:
    """The same files as an archive."""
    with tarfile.open(target, "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, path.name)
    return target


def config(images: Path, out: Path, **options: object) -> CorpusConfig:
    """Two shards, half of the persons held out."""
    return CorpusConfig(
        **{"images": (images,), "out": out, "shard_size": 3, "validation_fraction": 0.5} | options
    )
