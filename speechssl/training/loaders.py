"""How many processes prepare the batches of a training."""

import torch

from speechssl.system import num_cpus
from speechssl.training.loop_config import LoopConfig


def num_loaders(loop: LoopConfig, device: torch.device, sharers: int = 1) -> int:
    """Loader processes of one training process.

    Where the config leaves it open: none where the threads of the training take every processor, as
    a loader would take one from them (fetching between the updates costs less than it), else one.

    Args:
        loop: of the run.
        device: of the model.
        sharers: processes that share the updates, each with as many threads.
    """
    if loop.num_workers is not None:
        return loop.num_workers // sharers
    takes_all = device.type == "cpu" and sharers * torch.get_num_threads() >= num_cpus()
    return 0 if takes_all else 1
