"""Training the autoencoder on photographs."""

from mofaface.training.config import RECIPES, Augmentation, OptimiserConfig, TrainConfig, load_recipe
from mofaface.training.dry_run import dry_run
from mofaface.training.loop import train

__all__ = ["RECIPES", "Augmentation", "OptimiserConfig", "TrainConfig", "dry_run", "load_recipe", "train"]
