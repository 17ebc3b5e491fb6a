"""Tar shards in the layout of WebDataset (key.jpg, key.json), written whole or not at all."""

import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mofaface.corpus.config import CorpusError
from mofaface.corpus.sample import Sample
from mofaface.files import written_whole


def write_shard(path: Path, samples: Iterable[Sample]) -> None:
    """A shard under its final name once it is complete."""
    with written_whole(path) as temporary, tarfile.open(temporary, "w") as archive:
        for sample in samples:
            _add(archive, f"{sample.key}.jpg", sample.jpeg)
            _add(archive, f"{sample.key}.json", sample.json())


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # no date, no owner: equal samples give equal shards
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def read_shard(path: Path, rescue: bool = False) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """JPEG and metadata of each sample.

    Raises CorpusError for a shard that is not whole, but for a damaged header, at which a tar file just ends; with
    `rescue` gives what can still be read.
    """
    try:
        # Where no header is found, the next one is looked for.
        with tarfile.open(path, "r:", ignore_zeros=rescue) as archive:
            jpeg: dict[str, bytes] = {}
            for member in archive:
                key, _, suffix = member.name.partition(".")
                file = archive.extractfile(member)
                data = file.read() if file else b""
                if suffix == "jpg":
                    jpeg[key] = data
                elif suffix == "json":
                    try:
                        sample = jpeg.pop(key), json.loads(data)
                    except (KeyError, ValueError):
                        if rescue:
                            continue
                        raise
                    yield sample
    except (tarfile.TarError, OSError, KeyError, AttributeError, ValueError) as error:
        if rescue:
            return
        raise CorpusError(
            f"{path} is not a whole shard ({type(error).__name__}: {error}); delete it and corpus.json "
            "and build the corpus again: it goes on where shards are missing."
        ) from error


def write_text(path: Path, text: str) -> None:
    """A text file, whole or not at all."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
