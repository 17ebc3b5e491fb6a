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
from mofaface.pictures import save_picture
from mofaface.training.config import TrainConfig, to_plain

log = logging.getLogger("mofaface")


class Monitor:
    """Writes a run's log; TensorBoard's too, where it is installed."""

    def __init__(self, config: TrainConfig):
        self.folder = config.out
        self.folder.mkdir(parents=True, exist_ok=True)
        description = {"mofaface": mofaface.__version__, "commit": _commit()}
        (self.folder / "run.json").write_text(json.dumps(description, indent=1))
        (self.folder / "config.json").write_text(json.dumps(to_plain(config), indent=1))
        self._writer = _tensorboard(self.folder)

    def line(self, iteration: int, **values: Any) -> dict[str, Any]:
        """Write a line with these values."""
        entry = {"iteration": iteration, **values}
        with open(self.folder / "log.jsonl", "a") as file:
            file.write(json.dumps(entry) + "\n")
        if self._writer:
            for name, value in entry.items():
                if value is not None:
                    self._writer.add_scalar(name, value, iteration)
        return entry

    def forget_after(self, iteration: int) -> None:
        """Drop the lines that a resumed run will write again."""
        path = self.folder / "log.jsonl"
        if path.exists():
            kept = [line for line in path.read_text().splitlines() if _iteration(line) <= iteration]
            path.write_text("".join(f"{line}\n" for line in kept))

    def picture(self, iteration: int, name: str, picture: UInt8[np.ndarray, "height width 3"]) -> None:
        """Save a picture of the state of the network."""
        save_picture(self.folder / f"{name}-{iteration:06d}.png", picture)
        if self._writer:
            self._writer.add_image(name, picture, iteration, dataformats="HWC")

    def close(self) -> None:
        """End TensorBoard's thread and write what it still holds."""
        if self._writer:
            self._writer.close()


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
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.info("TensorBoard is not installed (pip install tensorboard); the log is %s/log.jsonl", folder)
        return None
    return SummaryWriter(str(folder / "tensorboard"))
