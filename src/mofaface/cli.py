"""The command line: `mofaface <command>`. Each command is a frozen dataclass; its fields are its options."""

import logging
import sys
from collections.abc import Sequence
from typing import Any

import tyro
from rich.logging import RichHandler

from mofaface.commands_bench import Bench
from mofaface.commands_corpus import Corpus
from mofaface.commands_evaluate import Evaluate, Sheet
from mofaface.commands_export import Export
from mofaface.commands_models import Model
from mofaface.commands_networks import Train
from mofaface.commands_photos import Fit, Reconstruct
from mofaface.commands_protocol import Protocol
from mofaface.commands_synth import Synth, SynthCodes
from mofaface.encoders import WeightsError
from mofaface.face_models.container import ContainerError
from mofaface.photo import PhotoError
from mofaface.terminal import INTERRUPTED, NOTHING_DONE, console, named, say

COMMANDS: dict[str, type] = {
    "reconstruct": Reconstruct,
    "fit": Fit,
    "evaluate": Evaluate,
    "sheet": Sheet,
    "model": Model,
    "corpus": Corpus,
    "synth": Synth,
    "synth-codes": SynthCodes,
    "train": Train,
    "protocol": Protocol,
    "export": Export,
    "bench": Bench,
}
# A package that only some commands need, and the extra that brings it.
EXTRAS = {
    "scipy": "build-model",
    "matplotlib": "evaluate",
    "onnx": "export",
    "onnxscript": "export",
    "onnxruntime": "export",
    "ray": "cluster",
}


def parse(arguments: Sequence[str]) -> Any:
    """The command of a command line."""
    if arguments and arguments[0] == "train":
        return Train(tuple(arguments[1:]))
    union: Any = None
    for name, command in COMMANDS.items():
        choice = named(command, name)
        union = choice if union is None else union | choice
    return tyro.cli(
        union,
        args=list(arguments),
        prog="mofaface",
        description="One photograph in, a face with meaning out.",
    )


def missing_package(error: ImportError) -> str:
    """What to install after an import that failed."""
    package = (error.name or "").split(".")[0]
    if package in EXTRAS:
        return f"this command needs {package}: pip install 'mofaface[{EXTRAS[package]}]'"
    return f"a part that mofaface needs cannot be loaded ({error}); install mofaface again"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0 all done, 2 some photos gave no face, 1 nothing could be done."""
    logging.basicConfig(
        level="INFO", format="%(message)s", handlers=[RichHandler(console=console, show_path=False)]
    )
    try:
        command = parse(sys.argv[1:] if arguments is None else arguments)
    except SystemExit as error:
        # A command line that cannot be understood is "nothing done", not "some photos failed".
        sys.exit(NOTHING_DONE if error.code else 0)
    try:
        code = command.run()
    except SystemExit as error:  # `train` reads its options when it runs
        code = NOTHING_DONE if error.code else 0
    except KeyboardInterrupt:
        console.print("interrupted; what was finished is kept")
        code = INTERRUPTED
    except ImportError as error:
        say("red", "error", missing_package(error))
        code = NOTHING_DONE
    except (ContainerError, WeightsError, PhotoError, ValueError, OSError, RuntimeError) as error:
        say("red", "error", str(error))
        code = NOTHING_DONE
    sys.exit(code)
