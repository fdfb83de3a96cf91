from dataclasses import dataclass, field


@dataclass(frozen=True)
class Settings:
    """What a training run may be told."""

    batch_size: int = 2_048  # rows at once
    accumulate_grad_batches: int = field(default=1)
    rate: float = 0.2


@dataclass(frozen=True)
class Evaluation:
    rows: int = 256
