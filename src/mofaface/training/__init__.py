"""Training the autoencoder on photographs."""

from mofaface.training.config import RECIPES, Augmentation, OptimiserConfig, TrainConfig, load_recipe
from mofaface.training.loop import train

__all__ = ["RECIPES", "Augmentation", "OptimiserConfig", "TrainConfig", "load_recipe", "train"]
