"""Where a verb computes."""

import torch

from workloads.contract import Failure, RunFailed


def settle(device: str, threads: int = 0) -> torch.device:
    """The device that `device` (auto, cpu or cuda) means here; from now on torch takes `threads` of the CPU, where they
    are not 0. Raises RunFailed where there is no such device."""
    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise RunFailed(Failure.BAD_SETTING, "device is cuda, and torch sees no GPU here: say auto or cpu")
    if threads:
        torch.set_num_threads(threads)
    return torch.device("cuda" if there and device != "cpu" else "cpu")
