"""The options of `mofaface train`: a recipe first, then changes to it."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import tyro

from mofaface.training.config import TrainConfig, load_recipe


class Wanted(NamedTuple):
    """What a command line asks for."""

    config: TrainConfig
    resume: bool
    """Whether an existing run goes on."""
    dry_run: bool = False
    """Whether it is only tried."""


def parse_training(arguments: Sequence[str]) -> Wanted:
    """What a command line asks for.

    `--resume DIR` takes the configuration of that run, so that nothing but its length or its logging need be given again.
    """
    first = argparse.ArgumentParser("mofaface train", add_help=False, allow_abbrev=False)
    first.add_argument("--recipe", default="default")
    first.add_argument("--resume", type=Path)
    first.add_argument("--dry-run", action="store_true")
    chosen, rest = first.parse_known_args(list(arguments))
    recipe = load_recipe(str(chosen.resume / "config.json") if chosen.resume else chosen.recipe)
    if chosen.resume:
        recipe = replace(recipe, out=chosen.resume)
    description = (
        "Train a network. --recipe paper|default|FILE.json is the start, --resume DIR goes on with a run, --dry-run "
        "tries it and writes nothing."
    )
    config = tyro.cli(TrainConfig, default=recipe, args=rest, prog="mofaface train", description=description)
    return Wanted(config, chosen.resume is not None, chosen.dry_run)
