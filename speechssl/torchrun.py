"""What `torchrun`, or another launcher, says of a process in its environment.

RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT, LOCAL_RANK and LOCAL_WORLD_SIZE are torch's own names
(pytorch.org/docs, "torchrun", environment variables).
"""

import os

_NEEDED = ("RANK", "MASTER_ADDR", "MASTER_PORT")


def num_processes() -> int:
    """How many processes work together, over all machines; 1 without a launcher.

    Raises ValueError for a number that is none, and where the processes are several and it is not
    said which one this is, or where the first of them listens.
    """
    num = _whole("WORLD_SIZE", 1, at_least=1)
    if num == 1:
        return 1
    if missing := [name for name in _NEEDED if not os.environ.get(name)]:
        raise ValueError(
            f"WORLD_SIZE is {num}, and {' and '.join(missing)} {'are' if missing[1:] else 'is'} "
            "not set: start the processes with torchrun, which sets them all, or take WORLD_SIZE "
            "out of the environment."
        )
    _whole("MASTER_PORT", 0, at_least=0)
    if (rank := _whole("RANK", 0, at_least=0)) >= num:
        raise ValueError(f"RANK is {rank}, and must be below WORLD_SIZE, which is {num}.")
    return num


def num_on_this_machine() -> int:
    """How many of the processes run on this machine; 1 without a launcher."""
    return _whole("LOCAL_WORLD_SIZE", 1, at_least=1)


def number_on_this_machine() -> int | None:
    """This process's number among those of its machine; None without a launcher."""
    return _whole("LOCAL_RANK", 0, at_least=0) if "LOCAL_RANK" in os.environ else None


def is_first() -> bool:
    """Whether this is the process that speaks: number 0 of all of them, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def _whole(name: str, default: int, *, at_least: int) -> int:
    given = os.environ.get(name, str(default))
    if not (given.isascii() and given.isdigit() and int(given) >= at_least):
        raise ValueError(
            f"The environment variable {name} must be a whole number from {at_least} on, got "
            f"{given!r}: torchrun sets it; else take it out of the environment."
        )
    return int(given)
