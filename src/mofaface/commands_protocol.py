"""`mofaface protocol`: the paper's experiment on synthetic faces."""

import importlib
from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import Progress

from mofaface.protocol import ProtocolConfig, measure_network, render_faces, train_network
from mofaface.terminal import console


@dataclass(frozen=True)
class Protocol:
    """The paper's experiment on synthetic faces: render, train, measure. The defaults are the paper's, unsupervised."""

    config: Annotated[ProtocolConfig, tyro.conf.arg(name="")]

    def run(self) -> int:
        """Run what is asked for, print the figures, and return the exit code."""
        config = self.config
        if config.only in ("all", "measure"):
            importlib.import_module("matplotlib")  # before hours of training, not after
        if config.only in ("all", "render"):
            render_faces(config)
        if config.only in ("all", "train"):
            train_network(config)
        if config.only in ("all", "measure"):
            self._measure()
        console.print(f"wrote {config.out}", markup=False, highlight=False, soft_wrap=True)
        return 0

    def _measure(self) -> None:
        with Progress(console=console, transient=True) as bar:
            task = bar.add_task("test faces", total=None if self.config.corpus else self.config.test)
            result = measure_network(self.config, lambda n: bar.advance(task, n))
        wide = Console(width=None if Console().is_terminal else 180, soft_wrap=False)
        wide.print(result.tables[0])
