from trainer import Trainer, TrainingArguments


def main() -> None:
    args = TrainingArguments(
        "runs",
        per_device_train_batch_size=2048,  # as much as the card takes
        per_device_eval_batch_size=256,
        learning_rate=0.2,
    )
    Trainer(args).train()


if __name__ == "__main__":
    main()
