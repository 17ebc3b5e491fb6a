"""Training the autoencoder on photographs."""

from mofaface.training.config import RECIPES, Augmentation, OptimiserConfig, TrainConfig, load_recipe
from mofaface.training.loop import train
from mofaface.training.rehearsal import dry_run

__all__ = ["RECIPES", "Augmentation", "OptimiserConfig", "TrainConfig", "dry_run", "load_recipe", "train"]
