"""What a photo costs on its way to a face, stage by stage: milliseconds, the shortest of many repeats."""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mofaface.bench import shortest
from mofaface.code import Code
from mofaface.crop import crops_to_tensor, cut_crop
from mofaface.detection import detect_faces
from mofaface.engines import Engine, has_onnxruntime
from mofaface.photo import read_photo
from mofaface.pipeline import process_in_stages
from mofaface.reconstruct import Reconstructor, load
from mofaface.refine import Refiner

REPEATS = 30
BATCHES = (1, 32)
REFINE_STEPS = (4, 12)
# A batch of files must be long enough that starting and ending the threads is a small part of its time.
FEWEST_FILES = 200


@dataclass(frozen=True)
class StageTime:
    """One stage of a photo's way."""

    stage: str
    engine: str
    """What runs it: "torch" (for detection OpenCV), "onnxruntime", or "" where there is nothing to choose."""
    batch: int
    milliseconds: float
    """For each photo, the mean over the photos that were given."""


@dataclass(frozen=True)
class FolderSpeed:
    """A folder of photos, through to code.json."""

    engine: str
    photos: int
    """The given photos, repeated until they are enough."""
    per_second: float


def measure_inference(photos: Sequence[str], weights: str, model: str) -> Iterator[StageTime]:
    """The stages for photos that each show a face."""
    networks = {engine: load(weights, model, device="cpu", engine=engine) for engine in engines()}
    any_network = networks["torch"]
    read = [read_photo(name) for name in photos]
    boxes = [detect_faces(photo, engine="torch").faces[0] for photo in read]
    crops = [cut_crop(photo, box) for photo, box in zip(read, boxes, strict=True)]

    def row(stage: str, engine: str, call: Callable[[int], object]) -> StageTime:
        return StageTime(stage, engine, 1, 1e3 * mean_shortest(call, len(photos)))

    yield row("reading", "", lambda k: read_photo(photos[k]))
    for engine in networks:
        yield row("detection", engine, lambda k, e=engine: detect_faces(read[k], engine=e))  # type: ignore[misc]
    yield row("crop", "", lambda k: crops_to_tensor([cut_crop(read[k], boxes[k])]))
    for engine, network in networks.items():
        for batch in BATCHES:
            image = crops_to_tensor((crops * batch)[:batch])
            yield StageTime("encoder", engine, batch, 1e3 * _encoding(network, image) / batch)
    for steps in REFINE_STEPS:
        for batch in BATCHES:
            image = crops_to_tensor((crops * batch)[:batch])
            took = _refining(any_network, image, steps)
            yield StageTime(f"refinement, {steps} steps", "", batch, 1e3 * took / batch)
    with torch.no_grad():
        code = any_network.encode(crops_to_tensor(crops[:1]))
    yield row("mesh", "", mesh_call(any_network, code))
    for engine, network in networks.items():
        yield row("detection, crop, encoder, mesh", engine, _to_mesh(network, read))
        yield row("whole, photo in memory to result", engine, lambda k, n=network: n(read[k]))  # type: ignore[misc]
        yield row("whole, file to result", engine, lambda k, n=network: n(photos[k]))  # type: ignore[misc]


def measure_folder(photos: Sequence[str], weights: str, model: str) -> Iterator[FolderSpeed]:
    """Photos per second through `reconstruct --save json`, warm, with a thread for each core."""
    many = [photos[k % len(photos)] for k in range(max(FEWEST_FILES, len(photos)))]
    for engine in engines():
        network = load(weights, model, device="cpu", engine=engine)
        network(photos[0])
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            for _ in process_in_stages(many, network.stages(), Path(folder), ("json",)):
                pass
            yield FolderSpeed(engine, len(many), len(many) / (time.perf_counter() - start))


def engines() -> tuple[Engine, ...]:
    """The engines that this installation has."""
    return ("torch", "onnxruntime") if has_onnxruntime() else ("torch",)


def mean_shortest(call: Callable[[int], object], count: int) -> float:
    """The mean over `count` things of the shortest time of a call with one of them, seconds."""
    return float(np.mean([shortest(lambda k=k: call(k), REPEATS) for k in range(count)]))  # type: ignore[misc]


@torch.no_grad()
def _encoding(network: Reconstructor, image: torch.Tensor) -> float:
    return shortest(lambda: network.encode(image), REPEATS)


@torch.no_grad()
def _refining(network: Reconstructor, image: torch.Tensor, steps: int) -> float:
    refiner, code = Refiner(network.autoencoder.decoder, steps), network.encode(image)
    return shortest(lambda: refiner(code, image), REPEATS)


def mesh_call(network: Reconstructor, code: Code) -> Callable[[int], object]:
    """A call that makes every vertex, with expression and pose, from a code."""
    R, t = torch.eye(3), torch.tensor((0.0, 0.0, 1000.0))

    @torch.no_grad()
    def call(_: int) -> object:
        return network.geometry.posed(code.alpha[0], code.delta[0], R, t).numpy()

    return call


def _to_mesh(network: Reconstructor, read: Sequence) -> Callable[[int], object]:  # type: ignore[type-arg]
    @torch.no_grad()
    def call(k: int) -> object:
        code = network.encode(crops_to_tensor(network.find(read[k]).crops))
        return mesh_call(network, code)(0)

    return call
