"""`mofaface corpus`: training corpora, built from photographs or described."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from mofaface.corpus import CorpusConfig, build_corpus, describe_corpus
from mofaface.terminal import named


@dataclass(frozen=True)
class CorpusBuild:
    """Make a training corpus: 240×240 crops with landmarks, in shards."""

    config: Annotated[CorpusConfig, tyro.conf.arg(name="")]

    def run(self) -> int:
        """Build, describe what was made, and return the exit code."""
        build_corpus(self.config)
        print(describe_corpus(self.config.out))
        return 0


@dataclass(frozen=True)
class CorpusInfo:
    """Print what a corpus holds."""

    corpus: tyro.conf.Positional[Path]
    """Folder that `corpus build` made."""

    def run(self) -> int:
        """Print and return the exit code."""
        print(describe_corpus(self.corpus))
        return 0


CorpusCommand = named(CorpusBuild, "build") | named(CorpusInfo, "info")


@dataclass(frozen=True)
class Corpus:
    """Training corpora: build one from photographs, or describe one."""

    command: Annotated[CorpusCommand, tyro.conf.arg(name="")]

    def run(self) -> int:
        """Run the command."""
        return self.command.run()  # type: ignore[attr-defined]  # a union that tyro reads
