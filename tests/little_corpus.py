"""A little corpus of rendered faces with exact landmarks, in memory and on disk; a tiny encoder for it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from little_face import LITTLE, little_model, random_code

from mofaface.corpus import CorpusConfig, CorpusSplit
from mofaface.corpus.index import claim_folder, content_config, finish_index, write_part
from mofaface.corpus.sample import FORMAT, VERSION, Sample, Task, encode_jpeg
from mofaface.corpus.shards import write_shard
from mofaface.corpus.sources import Item
from mofaface.decoder import Decoder
from mofaface.encoders import EncoderConfig
from mofaface.pictures import overlay
from mofaface.training.config import OptimiserConfig, TrainConfig

TINY = EncoderConfig(input_size=32)
TRAIN, VALIDATION = 20, 4


def rendered_faces(count: int, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Crops (uint8) of random little faces before noise, and their 68 landmarks in pixels."""
    decoder = Decoder(little_model(side=17))
    code = random_code(LITTLE, seed, count)
    with torch.no_grad():
        face = decoder(code)
    uv, depth, colours = (x.numpy() for x in (face.uv_crop, face.x_camera[..., 2], face.colour))
    random = np.random.default_rng(seed)
    crops = []
    for i in range(count):
        before = random.integers(90, 130, (240, 240, 3)).astype(np.uint8)
        crops.append(overlay(before, uv[i], depth[i], decoder.model.triangles.numpy(), colours[i].clip(0, 1)))
    return crops, uv[:, decoder.model.landmarks_68.numpy()].astype(np.float32)


def corpus_in_memory(count: int = TRAIN, seed: int = 0) -> CorpusSplit:
    """The same as a split of a corpus."""
    crops, landmarks = rendered_faces(count, seed)
    names = tuple(f"face-{i}" for i in range(count))
    return CorpusSplit(
        jpegs=tuple(encode_jpeg(crop) for crop in crops),
        landmarks=landmarks,
        confidence=np.ones((count, 68), np.float32),
        yaw=np.zeros(count, np.float32),
        keys=names,
        names=tuple(f"{name}.jpg" for name in names),
        sources=("little",) * count,
        persons=names,
    )


def write_corpus(out: Path) -> Path:
    """A corpus folder with both splits."""
    content = content_config(CorpusConfig((Path("little"),), out), [])
    claim_folder(out, content)
    for seed, (split, count) in enumerate({"train": TRAIN, "validation": VALIDATION}.items()):
        crops, landmarks = rendered_faces(count, seed)
        tasks = [
            Task(f"{split}-{i}", "little", f"{split} {i}", split, Item(f"{i}.jpg", Path(f"{i}.jpg")))
            for i in range(count)
        ]
        samples = [
            Sample(t.key, _meta(t, s), encode_jpeg(c))
            for t, s, c in zip(tasks, landmarks, crops, strict=True)
        ]
        write_part(out, f"{split}-000000", tasks, samples)
        write_shard(out / f"{split}-000000.tar", samples)
    finish_index(out, content, ["train-000000", "validation-000000"])
    return out


def _meta(task: Task, landmarks: np.ndarray) -> dict:
    return {
        "format": FORMAT,
        "version": VERSION,
        "landmarks_68": landmarks.tolist(),
        "confidence_68": [1.0] * 68,
        **{name: getattr(task, name) for name in ("key", "source", "person", "split")},
        **{"name": task.item.name, "score": 1.0, "presence": 18.0, "disagreement": 0.0, "yaw": 0.0},
    }


def little_config(corpus: Path, model: Path, out: Path, **changes: Any) -> TrainConfig:
    """A run of a tiny network for some seconds."""
    return TrainConfig(
        corpus=corpus,
        out=out,
        model=str(model),
        encoder=TINY,
        optimiser=OptimiserConfig(warmup=2),
        threads=1,
        **changes,
    )
