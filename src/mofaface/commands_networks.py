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
        from mofaface.training.processes import is_first

        config, resume, dry = parse_training(self.arguments)
        if dry:
            told = dry_run(config, resume)
            if is_first():
                print(told)
            return 0
        written = train(config, resume)
        if is_first():
            console.print(f"wrote {written}", markup=False, highlight=False, soft_wrap=True)
        return 0
