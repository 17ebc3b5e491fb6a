"""What the commands share: the error stream, exit codes, and names of subcommands."""

from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.text import Text

console = Console(stderr=True)
NOTHING_DONE = 1
INTERRUPTED = 130


def named(command: type, name: str) -> Any:
    """The command as a type that tyro offers as the subcommand `name`."""
    return Annotated[command, tyro.conf.subcommand(name)]


def say(colour: str, kind: str, text: str) -> None:
    """One line on the error stream; the text is shown as it is, whatever brackets a path has."""
    line = Text.assemble((kind, colour), f": {text}")
    console.print(line, soft_wrap=True, highlight=False)
