"""`mofaface train`: networks, made."""

from dataclasses import dataclass, field

from mofaface.terminal import console


@dataclass(frozen=True)
class Train:
    """Train a network. Give --recipe paper|default|FILE.json first; other options change that recipe."""

    arguments: tuple[str, ...] = field(default=())

    def run(self) -> int:
        """Train and return the exit code."""
        from mofaface.training import train
        from mofaface.training.options import parse_training

        config, resume = parse_training(self.arguments)
        console.print(f"wrote {train(config, resume)}", markup=False, highlight=False, soft_wrap=True)
        return 0
