"""A corpus in memory: encoded crops and the arrays a training loop needs."""

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

from mofaface.camera import Camera
from mofaface.code import CodeLayout
from mofaface.corpus.config import CorpusError
from mofaface.corpus.index import crops_of_shards, read_summary
from mofaface.corpus.shards import read_shard
from mofaface.corpus.split import SplitName
from mofaface.crop import CROP_SIZE

# Of its own, because a crop's damage is seen by the one process of several that needs it.
crops_log = logging.getLogger("mofaface.crops")
log = logging.getLogger("mofaface")


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
    damaged: set[int] = field(default_factory=set, compare=False, repr=False)
    """Numbers of the crops that turned out damaged and were told of."""

    def __len__(self) -> int:
        return len(self.jpegs)

    def image(self, i: int) -> UInt8[np.ndarray, "240 240 3"]:
        """The pixels of one crop, RGB."""
        try:
            picture = cv2.imdecode(np.frombuffer(self.jpegs[i], np.uint8), cv2.IMREAD_COLOR)
        except cv2.error:  # no bytes, or more pixels than OpenCV takes
            picture = None
        if picture is None or picture.shape != (CROP_SIZE, CROP_SIZE, 3):
            raise CorpusError(f"The crop {self.keys[i]} is damaged; build the corpus again.")
        return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)

    def sound_image(self, i: int) -> tuple[int, UInt8[np.ndarray, "240 240 3"]]:
        """Number and pixels of a crop, or of the next one that can be decoded; a damaged one is told of once."""
        for number in (*range(i, len(self)), *range(i)):
            try:
                return number, self.image(number)
            except CorpusError:
                if number not in self.damaged:
                    self.damaged.add(number)
                    crops_log.warning(
                        "the crop %s is damaged: another one is taken in its place; to have it back, delete "
                        "corpus.json and run the same `mofaface corpus build` again", self.keys[number],
                    )  # fmt: skip
        raise CorpusError(f"None of the {len(self)} crops can be decoded; build the corpus again.")


def with_sound_crops(corpus: CorpusSplit) -> CorpusSplit:
    """A split whose damaged crops are replaced, with their landmarks and codes, as `sound_image` does it; decodes all."""
    numbers = [corpus.sound_image(i)[0] for i in range(len(corpus))]
    return replace(
        corpus,
        jpegs=tuple(corpus.jpegs[i] for i in numbers),
        landmarks=corpus.landmarks[numbers],
        confidence=corpus.confidence[numbers],
        codes=None if corpus.codes is None else corpus.codes[numbers],
        cameras=None if corpus.cameras is None else tuple(corpus.cameras[i] for i in numbers),
    )


def load_corpus(corpus: Path, split: SplitName, skip_damaged: bool = False) -> CorpusSplit:
    """One split of a corpus, all of it (about 20 kB a crop).

    Raises CorpusError for a shard that is damaged or not there; with `skip_damaged` says what of it is lost and leaves
    that out, unless nothing is left.
    """
    corpus = Path(corpus)
    shards = [name for name in read_summary(corpus)["shards"] if name.startswith(f"{split}-")]
    expected = crops_of_shards(corpus)
    samples = [
        sample
        for name in shards
        for sample in _samples(corpus / name, expected[name] if expected else None, skip_damaged)
    ]
    if not samples and any(expected[name] for name in shards):
        raise CorpusError(
            f"No {split} crop of {corpus} can be read, all its {split} shards are damaged or missing; {_REPAIR}."
        )
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


_REPAIR = "delete corpus.json there and run the same `mofaface corpus build` (or `synth`) again"


def _samples(path: Path, expected: int | None, skip_damaged: bool) -> list[tuple[bytes, dict[str, Any]]]:
    """The samples of a shard in which there should be so many, where the index says that."""
    rescue = skip_damaged and expected is not None
    samples = [sample for sample in read_shard(path, rescue) if not rescue or _is_complete(sample[1])]
    if expected is None or len(samples) >= expected:
        return samples
    lost = expected - len(samples)
    sentence = (
        f"{path} is {'damaged' if path.is_file() else 'missing'}: {lost} of its {expected} crops are lost"
    )
    if not skip_damaged:
        raise CorpusError(f"{sentence}; {_REPAIR}.")
    log.warning("%s and left out; to have them back, %s", sentence, _REPAIR)
    return samples


def _is_complete(meta: Any) -> bool:
    """Whether metadata hold what a split is made of."""
    try:
        points, sure = (np.asarray(meta[name], float) for name in ("landmarks_68", "confidence_68"))
        texts = [meta[name] for name in ("key", "name", "source", "person")]
        code = [np.ravel(np.asarray(part, float)) for part in meta.get("code", {}).values()]
        if code:
            Camera(**meta["camera"])
            texts.append(meta["face_model"]["digest"])
        numbers = np.concatenate([points.ravel(), sure, [float(meta["yaw"])], *code])
    except (AttributeError, KeyError, TypeError, ValueError):
        return False
    shapes = points.shape == (68, 2) and sure.shape == (68,)
    return shapes and bool(np.isfinite(numbers).all()) and all(isinstance(text, str) for text in texts)


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
