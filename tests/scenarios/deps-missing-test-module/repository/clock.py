"""How long ago something was."""

from hourglasses import now


def age(since):
    return now() - since
