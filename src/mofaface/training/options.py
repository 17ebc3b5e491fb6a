"""The options of `mofaface train`: a recipe first, then changes to it."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import tyro

from mofaface.training.config import TrainConfig, load_recipe


def parse_training(arguments: Sequence[str]) -> tuple[TrainConfig, bool]:
    """The configuration of a command line, and whether an existing run is resumed.

    `--resume DIR` takes the configuration of that run, so that nothing but its length or its logging need be given again.
    """
    first = argparse.ArgumentParser("mofaface train", add_help=False, allow_abbrev=False)
    first.add_argument("--recipe", default="default")
    first.add_argument("--resume", type=Path)
    chosen, rest = first.parse_known_args(list(arguments))
    recipe = load_recipe(str(chosen.resume / "config.json") if chosen.resume else chosen.recipe)
    if chosen.resume:
        recipe = replace(recipe, out=chosen.resume)
    description = (
        "Train a network. --recipe paper|default|FILE.json is the start, --resume DIR goes on with a run."
    )
    config = tyro.cli(TrainConfig, default=recipe, args=rest, prog="mofaface train", description=description)
    return config, chosen.resume is not None
