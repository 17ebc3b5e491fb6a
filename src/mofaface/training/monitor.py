"""What a run tells: its configuration, one JSON line per log step, curves and pictures."""

import json
import logging
import math
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

import mofaface
from mofaface.files import write_text_whole
from mofaface.pictures import save_picture
from mofaface.training.config import TrainConfig, to_plain
from mofaface.training.disk import ENDLESS, Patience, append_whole

log = logging.getLogger("mofaface")


class Monitor:
    """Writes a run's log; TensorBoard's too, where it is installed."""

    def __init__(self, config: TrainConfig, patiently: Patience = ENDLESS):
        self.folder, self._patiently = config.out, patiently
        self.folder.mkdir(parents=True, exist_ok=True)
        description = {"mofaface": mofaface.__version__, "commit": _commit()}
        for name, plain in (("run", description), ("config", to_plain(config))):
            self._write_text(self.folder / f"{name}.json", json.dumps(plain, indent=1))
        self._curves = _tensorboard(self.folder)

    def line(self, iteration: int, **values: Any) -> dict[str, Any]:
        """Write a line with these values."""
        entry = {"iteration": iteration, **values}
        line = json.dumps(entry) + "\n"
        path = self.folder / "log.jsonl"
        self._patiently(path, lambda: append_whole(path, line.encode()))
        curves = self._curves
        if curves:
            points = {name: value for name, value in values.items() if value is not None}
            self._patiently(curves.path, lambda: curves.line(iteration, points))
        return entry

    def forget_after(self, iteration: int) -> None:
        """Drop the lines that a resumed run will write again."""
        path = self.folder / "log.jsonl"
        if path.exists():
            kept = [line for line in path.read_text().splitlines() if _iteration(line) <= iteration]
            self._write_text(path, "".join(f"{line}\n" for line in kept))
        curves = self._curves
        if curves:
            self._patiently(curves.path, lambda: curves.forget_after(iteration))

    def picture(self, iteration: int, name: str, picture: UInt8[np.ndarray, "height width 3"]) -> None:
        """Save a picture of the state of the network."""
        path = self.folder / f"{name}-{iteration:06d}.png"
        self._patiently(path, lambda: save_picture(path, picture))
        curves = self._curves
        if curves:
            self._patiently(curves.path, lambda: curves.picture(iteration, name, picture))

    def _write_text(self, path: Path, text: str) -> None:
        self._patiently(path, lambda: write_text_whole(path, text))


class Silence(Monitor):
    """What all processes but the first tell."""

    def __init__(self) -> None:
        pass

    def line(self, iteration: int, **values: Any) -> dict[str, Any]:
        return {}

    def forget_after(self, iteration: int) -> None:
        pass

    def picture(self, iteration: int, name: str, picture: UInt8[np.ndarray, "height width 3"]) -> None:
        pass


def _iteration(line: str) -> float:
    """The iteration of a line of the log; infinity for one that a killed run left half-written."""
    try:
        return json.loads(line)["iteration"]
    except ValueError:
        return math.inf


def _commit() -> str:
    try:
        command = ["git", "describe", "--always", "--dirty"]
        found = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
        return found.stdout.strip() or "unknown"
    except OSError:
        return "unknown"


def _tensorboard(folder: Path) -> Any:
    try:
        from mofaface.training.curves import Curves
    except ImportError:
        log.info("TensorBoard is not installed (pip install tensorboard); the log is %s/log.jsonl", folder)
        return None
    return Curves(folder / "tensorboard")
