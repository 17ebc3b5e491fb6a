"""What a corpus is built from, and how."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mofaface.detection import DetectorName
from mofaface.pool import Where

AdapterName = Literal["auto", "celeba", "lfw", "facewarehouse", "300vw", "utkface", "youtube", "folder"]


class CorpusError(ValueError):
    """A corpus that cannot be built or read; the message says what came and what to do."""


@dataclass(frozen=True)
class Pruning:
    """A detection that fails any of these is left out, with the reason on record."""

    score: float = 0.7
    """Lowest score of a YuNet detection (Haar's scores have another scale and are not judged)."""
    presence: float = 0.0
    """Lowest presence logit of the landmark network; faces have about +18, other things below -2."""
    disagreement: float = 0.06
    """Largest median distance between the landmark network's two passes, in outer-eye distances."""
    outside: int = 4
    """Most of the 68 landmarks that may lie outside the crop."""
    off_centre: float = 45.0
    """Largest distance of the landmarks' middle from the crop's centre, crop pixels."""
    min_face: float = 36.0
    """Smallest face, pixels of the photo."""


@dataclass(frozen=True)
class CorpusConfig:
    """Photographs to read, and the folder for the corpus."""

    images: tuple[Path, ...]
    """Folders or tar archives with photos (or, for 300-VW, videos)."""
    out: Path
    """Folder for the corpus; a build that was interrupted goes on where it stopped."""
    adapter: AdapterName = "auto"
    """Layout of the images, which tells who is who; auto recognises each by its names."""
    detector: DetectorName = "yunet"
    """Face detector: yunet, or the paper's haar."""
    engine: Where = "local"
    """Where they are read: in processes of this machine, or of a Ray cluster (docs/cluster.md)."""
    workers: int = 1
    """Processes that read and detect; a cluster that RAY_ADDRESS names has its own number."""
    shard_size: int = 1000
    """Photos per shard."""
    limit: int | None = None
    """At most so many photos of all, chosen evenly; none means all."""
    validation_fraction: float = 0.08
    """Share of the persons that are held out for validation."""
    frame_step: int = 10
    """Of a video, every so many frames one is taken."""
    seed: int = 0
    """Chooses the persons that are held out and the order of the photos."""
    pruning: Pruning = field(default_factory=Pruning)
    """When a detection is left out."""

    def __post_init__(self) -> None:
        if not self.images:
            raise CorpusError("A corpus needs at least one folder or tar of images; none came.")
        if not 0.0 <= self.validation_fraction < 1.0:
            raise CorpusError(f"validation_fraction lies in [0, 1); {self.validation_fraction} came.")
        for name in ("workers", "shard_size", "frame_step"):
            if getattr(self, name) < 1:
                raise CorpusError(f"{name} is at least 1; {getattr(self, name)} came.")
