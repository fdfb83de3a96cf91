from sensors.network import check, fit
from sensors.settings import Settings


def main() -> None:
    settings = Settings()
    check(fit(settings.batch_size, settings.accumulate_grad_batches, settings.rate))


if __name__ == "__main__":
    main()
