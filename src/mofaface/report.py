"""Reconstructing many photos: one folder per face, one report, and no photo that stops the others."""

import errno
import json
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from mofaface.files import write_text_whole
from mofaface.photo import Photo, PhotoError, read_photo
from mofaface.reconstruction import OccupiedError, Output, Reconstruction, folder_stem

FORMAT = "mofaface-report"
FORMAT_VERSION = "1"
REPORT = "report.json"
Process = Callable[[Photo], list[Reconstruction]]
Status = Literal["ok", "no face", "unreadable", "failed"]


class NoFaceError(ValueError):
    """A photo without a usable face; the message says why."""


@dataclass(frozen=True)
class Entry:
    """What became of one photo."""

    photo: str
    """Path as it was given."""
    status: Status
    """"ok" when at least one face was reconstructed and written."""
    reason: str = ""
    """Why there is no face; for "ok", what was done to the photo, if anything."""
    seconds: float = 0.0
    """Time spent on it, from reading to writing; photos that go through the network together share its time evenly."""
    faces: list[str] = field(default_factory=list)
    """Folders of the faces, relative to the report, largest face first."""
    quality: list[float] = field(default_factory=list)
    """Quality of each face, 0 to 1."""


def folder_names(photos: Sequence[str]) -> list[str]:
    """A folder name per photo: its stem, made unique with the ending and a number where photos share one."""
    names: list[str] = []
    taken = {REPORT}  # the report lies beside the folders
    for photo in photos:
        path = Path(photo)
        stem = folder_stem(photo)
        candidates = (
            stem,
            *([stem + path.suffix] if path.suffix.strip(". ") else []),
            *(f"{stem}.{n}" for n in range(2, len(photos) + 2)),
        )
        name = next(c for c in candidates if c.lower() not in taken)
        taken.add(name.lower())  # some file systems do not tell upper from lower case
        names.append(name)
    return names


@dataclass(frozen=True)
class Job:
    """One photo of a batch, and where its results go."""

    source: str
    name: str
    """Folder of its first face."""
    reserved: frozenset[str]
    """Folders of all photos' first faces."""
    out: Path
    outputs: tuple[Output, ...]

    def write(self, photo: Photo, faces: Sequence[Reconstruction]) -> Entry:
        """Write the folders of a photo's faces; the entry that says so, without its time."""
        names = [self.name, *(_further(self.name, i, self.reserved) for i in range(2, len(faces) + 1))]
        names = names[: len(faces)]
        for face, folder in zip(faces, names, strict=True):
            face.save(self.out, folder, self.outputs)
        notes = [note for note in (photo.note, *(face.note for face in faces)) if note]
        quality = [round(face.quality, 4) for face in faces]
        return Entry(self.source, "ok", "; ".join(notes), faces=names, quality=quality)

    def failure(self, error: Exception) -> Entry:
        """The entry of a photo that gave this error: whatever it was, the next photo may be fine."""
        match error:
            case PhotoError():
                return Entry(self.source, "unreadable", str(error))
            case NoFaceError():
                return Entry(self.source, "no face", str(error))
            case OccupiedError():
                return Entry(self.source, "failed", str(error))
        return Entry(self.source, "failed", _cause(error, self.out))


def make_jobs(photos: Sequence[str], out: Path, outputs: Iterable[Output]) -> list[Job]:
    """A job for each photo, with folder names that do not collide."""
    names = folder_names(photos)
    common = (frozenset(names), out, tuple(outputs))
    return [Job(photo, name, *common) for photo, name in zip(photos, names, strict=True)]


@contextmanager
def reported(out: Path) -> Iterator[list[Entry]]:
    """A list for the entries of a batch; the report is written at the end, however that comes."""
    make_folder(out)
    entries: list[Entry] = []
    try:
        yield entries
    finally:
        write_report(out / REPORT, entries)


def process_photos(
    photos: Sequence[str], process: Process, out: Path, outputs: Iterable[Output]
) -> Generator[Entry, None, None]:
    """Reconstruct photos one after the other, write their folders, and yield an entry for each.

    The report is written at the end, also when the caller stops early or is interrupted.
    """
    with reported(out) as entries:
        for job in make_jobs(photos, out, outputs):
            entry = process_photo(job, process)
            entries.append(entry)
            yield entry


def process_photo(job: Job, process: Process) -> Entry:
    """Reconstruct one photo and write its folders; whatever happens, an entry comes of it."""
    started = time.perf_counter()
    try:
        photo = read_photo(job.source)
        entry = job.write(photo, process(photo))
    except Exception as error:
        entry = job.failure(error)
    return replace(entry, seconds=round(time.perf_counter() - started, 4))


def make_folder(out: Path) -> None:
    """Make the folder for results; raises ValueError where its name belongs to a file."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ValueError(
            f"results go into a folder, and {out} is, or lies under, a file; give another --out"
        ) from None


def _cause(error: Exception, out: Path) -> str:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"the disk of {out} is full; free some space and run again"
    first_line = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first_line[:300]}"


def _further(name: str, number: int, reserved: frozenset[str]) -> str:
    """The folder of a further face: `<name>_2`, unless another photo has that very name."""
    return f"{name}_{number}" if f"{name}_{number}" not in reserved else f"{name}_face_{number}"


def write_report(path: Path, entries: Sequence[Entry]) -> None:
    """Write `report.json`; it appears only when it is complete. Raises OSError that says what to do."""
    report = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "photos": [asdict(entry) for entry in entries],
    }
    write_text_whole(path, json.dumps(report, indent=1))


def read_report(path: Path) -> list[Entry]:
    """The entries of a report."""
    return [Entry(**plain) for plain in json.loads(path.read_text(encoding="utf-8"))["photos"]]


def exit_code(entries: Sequence[Entry]) -> int:
    """0 when every photo gave a face, 2 when some did not, 1 when none did."""
    good = sum(entry.status == "ok" for entry in entries)
    return 1 if good == 0 else 0 if good == len(entries) else 2
