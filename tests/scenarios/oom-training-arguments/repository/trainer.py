"""A trainer with the arguments that people know from transformers."""

from dataclasses import dataclass

from network import check, fit


@dataclass(frozen=True)
class TrainingArguments:
    output_dir: str
    learning_rate: float = 5e-5
    per_device_train_batch_size: int = 8
    per_device_eval_batch_size: int = 8
    gradient_accumulation_steps: int = 1


class Trainer:
    def __init__(self, args: TrainingArguments) -> None:
        self.args = args

    def train(self) -> None:
        args = self.args
        check(fit(args.per_device_train_batch_size, args.gradient_accumulation_steps, args.learning_rate))
