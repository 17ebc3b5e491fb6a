"""A corpus in memory: encoded crops and the arrays a training loop needs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

from mofaface.camera import Camera
from mofaface.code import CodeLayout
from mofaface.corpus.config import CorpusError
from mofaface.corpus.index import read_summary
from mofaface.corpus.shards import read_shard
from mofaface.corpus.split import SplitName


@dataclass(frozen=True)
class CorpusSplit:
    """The crops of one split: JPEG bytes, landmarks (crop pixels), confidences, and where each came from."""

    jpegs: tuple[bytes, ...]
    landmarks: Float32[np.ndarray, "photos 68 2"]
    confidence: Float32[np.ndarray, "photos 68"]
    yaw: Float[np.ndarray, "photos"]
    keys: tuple[str, ...]
    names: tuple[str, ...]
    """Path of each photograph inside its source, with forward slashes."""
    sources: tuple[str, ...]
    persons: tuple[str, ...]
    codes: Float32[np.ndarray, "photos size"] | None = None
    """What `mofaface synth` rendered, in CodeLayout's order; None for photographs. They mean something for the face
    model with `code_model`'s digest only."""
    code_model: dict[str, str] | None = None
    """Name, version and digest of the codes' face model."""
    cameras: tuple[Camera, ...] | None = None
    """The camera that each code is seen with."""

    def __len__(self) -> int:
        return len(self.jpegs)

    def image(self, i: int) -> UInt8[np.ndarray, "240 240 3"]:
        """The pixels of one crop, RGB."""
        picture = cv2.imdecode(np.frombuffer(self.jpegs[i], np.uint8), cv2.IMREAD_COLOR)
        if picture is None:
            raise CorpusError(f"The crop {self.keys[i]} is damaged; build the corpus again.")
        return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def load_corpus(corpus: Path, split: SplitName) -> CorpusSplit:
    """One split of a corpus, all of it (about 20 kB a crop)."""
    corpus = Path(corpus)
    shards = [name for name in read_summary(corpus)["shards"] if name.startswith(f"{split}-")]
    samples = [sample for name in shards for sample in read_shard(corpus / name)]
    if not samples:
        raise CorpusError(
            f"{corpus} holds no {split} crops; build it from more photos"
            + (" or a larger validation_fraction." if split == "validation" else ".")
        )
    metas = [meta for _, meta in samples]
    return CorpusSplit(
        jpegs=tuple(jpeg for jpeg, _ in samples),
        landmarks=np.array([meta["landmarks_68"] for meta in metas], np.float32),
        confidence=np.array([meta["confidence_68"] for meta in metas], np.float32),
        yaw=np.array([meta["yaw"] for meta in metas], np.float32),
        keys=tuple(meta["key"] for meta in metas),
        names=tuple(meta["name"] for meta in metas),
        sources=tuple(meta["source"] for meta in metas),
        persons=tuple(meta["person"] for meta in metas),
        **_codes(corpus, metas),
    )


def _codes(corpus: Path, metas: list[dict[str, Any]]) -> dict[str, Any]:
    """The fields of a split that only rendered faces have; none for photographs."""
    if "code" not in metas[0]:
        return {}
    models = {meta["face_model"]["digest"]: meta["face_model"] for meta in metas}
    if len(models) > 1:
        raise CorpusError(
            f"{corpus} holds codes of {len(models)} face models; render it again with a single one."
        )
    sizes = {name: len(part) for name, part in metas[0]["code"].items()}
    order = list(CodeLayout(sizes["alpha"], sizes["delta"], sizes["beta"]).sizes)
    packed = [np.concatenate([np.ravel(meta["code"][name]) for name in order]) for meta in metas]
    return {
        "codes": np.stack(packed).astype(np.float32),
        "code_model": next(iter(models.values())),
        "cameras": tuple(Camera(**meta["camera"]) for meta in metas),
    }
