"""Learning rates."""


def warm_up(step):
    return min(1.0, step / 100)
