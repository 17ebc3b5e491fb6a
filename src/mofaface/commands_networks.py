"""`mofaface train`: networks, made."""

from dataclasses import dataclass, field

from mofaface.terminal import console


@dataclass(frozen=True)
class Train:
    """Train a network. Give --recipe paper|default|FILE.json first; options change that recipe, --dry-run tries it."""

    arguments: tuple[str, ...] = field(default=())

    def run(self) -> int:
        """Train and return the exit code."""
        from mofaface.training import dry_run, train
        from mofaface.training.options import parse_training

        config, resume, dry = parse_training(self.arguments)
        if dry:
            print(dry_run(config, resume))
            return 0
        console.print(f"wrote {train(config, resume)}", markup=False, highlight=False, soft_wrap=True)
        return 0
