"""Many photos in several processes, each with a network of its own: of this machine, or of a Ray cluster.

On one machine the threads of `process_in_stages` are faster. The results are the same, up to the last digits of the
photometric error and the quality: there they depend on how many photos went through the network together, and after
refinement all figures do, more visibly.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from mofaface.detection import DetectorName
from mofaface.engines import Engine
from mofaface.photo import Photo
from mofaface.pipeline import Stages
from mofaface.pool import InOrder, Where, available_cores, mapped
from mofaface.reconstruct import Found, Which, load
from mofaface.reconstruction import Output, Reconstruction
from mofaface.report import Entry, Job, folder_names, process_photo, reported


@dataclass(frozen=True)
class Network:
    """What every process loads before its first photo."""

    weights: str
    """Shipped name or file."""
    model: str
    """ "open" or a container file."""
    detector: DetectorName = "yunet"
    """Face detector."""
    faces: Which = "largest"
    """Which faces of a photo."""
    engine: Engine = "auto"
    """What runs the networks."""
    refine: int | None = None
    """Steps that follow the network; None takes those that the weights ask for."""


@dataclass(frozen=True)
class Batch:
    """What all photos of a batch have in common."""

    network: Network
    names: frozenset[str]
    """Folders of all photos' first faces."""
    out: Path
    outputs: tuple[Output, ...]

    def job(self, photo: str, name: str) -> Job:
        """The job of one photo."""
        return Job(photo, name, self.names, self.out, self.outputs)


@contextmanager
def process_in_pool(
    photos: Sequence[str],
    network: Network,
    out: Path,
    outputs: Iterable[Output],
    where: Where = "ray",
    workers: int = 0,
) -> Iterator[Generator[Entry, None, None]]:
    """A stream that reconstructs photos, writes their folders, and gives an entry for each, in the photos' order.

    The processes write the folders, so all machines share the file system of photos and `out`. The report is as that of
    `process_in_stages`, also after an interrupt. Raises PoolError, and what `load` raises.
    """
    if workers < 0:
        raise ValueError(f"photos are worked on by one process or more (0: one for each core), got {workers}")
    _stages_of(network)  # what cannot be loaded is missed here, before any process starts
    names = folder_names(photos)
    work = partial(_process, Batch(network, frozenset(names), out, tuple(outputs)))
    pairs = zip(photos, names, strict=True)
    with mapped(where, workers or available_cores(), work, pairs, _lost, out) as results:
        yield _reported(results, out)


def _reported(results: InOrder[tuple[str, str], Entry], out: Path) -> Generator[Entry, None, None]:
    with reported(out) as entries:
        try:
            for entry in results:
                entries.append(entry)
                yield entry
        except (KeyboardInterrupt, GeneratorExit):
            entries.extend(results.rest())
            raise


@cache
def _stages_of(network: Network) -> Stages[Found]:
    """The loaded network, once for each process."""
    reconstructor = load(
        network.weights, network.model, network.detector, "cpu", network.engine, network.refine
    )
    return reconstructor.stages(network.faces)


def _process(batch: Batch, pair: tuple[str, str]) -> Entry:
    stages = _stages_of(batch.network)

    def faces_of(photo: Photo) -> list[Reconstruction]:
        return stages.predict([stages.prepare(photo)])[0]

    return process_photo(batch.job(*pair), faces_of)


def _lost(pair: tuple[str, str], reason: str) -> Entry:
    return Entry(pair[0], "failed", reason)
