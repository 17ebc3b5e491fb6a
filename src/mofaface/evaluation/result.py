"""What an evaluation gives: figures for JSON, tables for people, and a folder with plots where one is asked for."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mofaface.files import write_text_whole

# Tables are as wide as they need to be where no terminal says how wide it is.
WIDTH = 180
Draw = Callable[[Path], object]


@dataclass(frozen=True)
class Result:
    """The outcome of one evaluation."""

    figures: dict[str, Any]
    """Plain values, for JSON."""
    tables: tuple[Table, ...]
    drawings: dict[str, Draw] = field(default_factory=dict)
    """What draws each file of the report; called only if a report is wanted."""
    rows: tuple[dict[str, Any], ...] = ()
    """One entry a photograph, for `photographs.csv`."""

    def text(self, width: int = WIDTH) -> str:
        """The tables as text."""
        console = Console(file=io.StringIO(), width=width, color_system=None)
        for table in self.tables:
            console.print(table)
            console.print()
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue()

    def json(self) -> str:
        """The figures as JSON; not-a-number is refused."""
        return json.dumps(self.figures, indent=1, allow_nan=False)

    def write_report(self, folder: Path) -> list[Path]:
        """Write figures.json, tables.txt, photographs.csv and all drawings into the folder; their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        written = [folder / "figures.json", folder / "tables.txt"]
        write_text_whole(written[0], self.json())
        write_text_whole(written[1], self.text())
        if self.rows:
            written.append(folder / "photographs.csv")
            write_text_whole(written[-1], _csv(self.rows))
        for name, draw in self.drawings.items():
            draw(folder / name)
            written.append(folder / name)
        return written


def _csv(rows: tuple[dict[str, Any], ...]) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    return file.getvalue()
