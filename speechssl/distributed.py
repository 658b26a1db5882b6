"""What several processes share; in a single process every function here does nothing.

Processes that `torchrun` started (it sets RANK, WORLD_SIZE and the address of the first one) take
micro-batches of their own: an update grows with their number. Those that a command started itself
(:func:`sharing_group`, :mod:`speechssl.training.team`) share the micro-batches of one process: an
update is the same however many they are.
"""

import os
import sys
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from speechssl import torchrun

Value = TypeVar("Value")

_LONGEST_WAIT = timedelta(days=1)
"""Of a process for the others of its command: one validates or saves alone meanwhile. That another
one has died is noticed by its connection, and by the team."""
_LOOPBACK = {"linux": "lo", "darwin": "lo0"}
"""Name of the interface that leaves no machine; elsewhere gloo finds one by the host's name."""


class _State:
    shares = False
    """Whether the group is one of :func:`sharing_group`."""
    alone = False
    """Whether this process computes something for itself for a moment."""


def rank() -> int:
    """This process's number, 0 in a single process."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes work together, 1 in a single process."""
    return dist.get_world_size() if dist.is_initialized() and not _State.alone else 1


def sharers() -> int:
    """How many processes share each update of one process; 1 where each takes micro-batches of its
    own."""
    return world() if _State.shares else 1


def all_reduce_sum(values: Tensor) -> Tensor:
    """The sum over all processes of a tensor, in place and returned."""
    if world() > 1:
        dist.all_reduce(values)
    return values


def all_reduce_min(value: int, device: torch.device) -> int:
    """The smallest of all processes' values: what they agree on."""
    if world() == 1:
        return value
    shared = torch.tensor(value, device=device)
    dist.all_reduce(shared, dist.ReduceOp.MIN)
    return int(shared)


def agree_on_steps(value: int, device: torch.device) -> int:
    """How many steps all processes go by: the first one's number where they share the updates of
    one process, which alone keeps the time; else the smallest."""
    if sharers() == 1:
        return all_reduce_min(value, device)
    shared = torch.tensor(value)
    dist.broadcast(shared, 0)
    return int(shared)


def all_reduce_max(value: int, device: torch.device) -> int:
    """The largest of all processes' values."""
    return -all_reduce_min(-value, device)


def gather(value: Value) -> list[Value]:
    """Every process's value, by its number."""
    if world() == 1:
        return [value]
    values: list[Value | None] = [None] * world()
    dist.all_gather_object(values, value)
    return [v for v in values if v is not None]


def share_out(num: int, work: Callable[[int], Value]) -> list[Value]:
    """``[work(0), ..., work(num - 1)]``, in every process: those that share the updates of one do a
    part each; any others do all."""
    if sharers() == 1:
        return [work(index) for index in range(num)]
    parts = gather([work(index) for index in range(rank(), num, world())])
    return [parts[index % world()][index // world()] for index in range(num)]


def broadcast(find: Callable[[], Value]) -> Value:
    """What the first process finds, in all of them; its error too."""
    if world() == 1:
        return find()
    shared: list[typing.Any] = [None, None]  # what is found, or the error
    if rank() == 0:
        try:
            shared[0] = find()
        except Exception as error:
            shared[1] = error
    dist.broadcast_object_list(shared)
    if shared[1] is not None:
        raise shared[1]
    return typing.cast(Value, shared[0])


@torch.no_grad()
def copy_from_first(values: Tensor) -> None:
    """Replace a tensor, in place, by that of the first process."""
    if world() == 1:
        return
    shared = values.to(torch.uint8) if values.dtype == torch.bool else values.contiguous()
    dist.broadcast(shared, 0)
    values.copy_(shared)


def average_gradients(module: nn.Module) -> None:
    """Replace each gradient by its mean over all processes.

    One that some process lacks counts as zero there; one that all lack stays missing, as in a
    single process, where the optimizer then leaves the parameter alone.
    """
    if world() == 1:
        return
    parameters = [p for p in module.parameters() if p.requires_grad]
    if not parameters:
        return
    there = torch.tensor([float(p.grad is not None) for p in parameters])
    counts = all_reduce_sum(there.to(parameters[0].device)).tolist()
    parameters = [p for p, count in zip(parameters, counts, strict=True) if count]
    if not parameters:
        return
    flat = torch.cat(
        [(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in parameters]
    )
    all_reduce_sum(flat).div_(world())
    for parameter, part in zip(
        parameters, flat.split([p.numel() for p in parameters]), strict=True
    ):
        parameter.grad = part.view_as(parameter).clone()


def whole(tensor: Tensor) -> Tensor:
    """A tensor that is sharded over the processes, in one piece; any other as it is.

    Every process calls it, in the same order, and gets the whole.
    """
    if world() == 1:
        return tensor
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def part(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor that is sharded over the processes; any other as it
    is."""
    if world() == 1:
        return tensor
    from torch.distributed.tensor import DTensor

    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def is_sharded(tensor: Tensor) -> bool:
    """Whether each process holds a part of it."""
    return part(tensor) is not tensor


class HostGroup:
    """The processes once more, beside the group of the training: for threads that agree on
    something while the training goes on, and for tensors in the memory of the CPU."""

    def __init__(self) -> None:
        """Every process makes one, at the same moment."""
        from torch.distributed.device_mesh import DeviceMesh

        group = dist.new_group(backend="gloo")
        assert isinstance(group, dist.ProcessGroup)  # every process is a member
        self.group = group
        self._mesh = DeviceMesh.from_group(self.group, "cpu")

    def gather(self, value: Value) -> list[Value]:
        """Every process's value, by its number."""
        values: list[Value | None] = [None] * world()
        dist.all_gather_object(values, value, group=self.group)
        return [v for v in values if v is not None]

    def shard(self, part: Tensor, like: Tensor) -> Tensor:
        """The tensor of which `part`, on the CPU, is what this process holds, sharded as `like` is;
        `part` itself where `like` is not sharded."""
        from torch.distributed.tensor import DTensor

        if not isinstance(like, DTensor):
            return part
        return DTensor.from_local(
            part,
            self._mesh,
            like.placements,
            run_check=False,
            shape=like.shape,
            stride=like.stride(),
        )


def whole_state(module: nn.Module) -> dict[str, Tensor]:
    """The module's ``state_dict`` on the CPU where it is sharded, each tensor in one piece.

    Every process calls it; the first gets the tensors, the others an empty dict.
    """
    found = {}
    for name, value in module.state_dict().items():
        one = whole(value)
        if rank() == 0:
            found[name] = one if one is value else one.cpu()
    return found


def barrier() -> None:
    """Wait until every process is here."""
    if world() > 1:
        dist.barrier()


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the other processes that `torchrun` started, and leave them cleanly; else nothing."""
    if dist.is_initialized() or torchrun.num_processes() == 1:
        yield
        return
    backend = "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)  # what is gathered as an object goes through the current one
        backend = "nccl"
    dist.init_process_group(
        backend, device_id=device if device.type == "cuda" else None, **_meeting_place()
    )
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def sharing_group(store: Store, own: int, num: int) -> Iterator[None]:
    """Join the `num` processes of one command on this machine, as number `own`, and leave them
    cleanly. `store` is one that no other group has used; else its keys need a prefix."""
    name = "GLOO_SOCKET_IFNAME"
    usual = os.environ.get(name)
    if usual is None and sys.platform in _LOOPBACK:
        os.environ[name] = _LOOPBACK[sys.platform]
    try:
        dist.init_process_group(
            "gloo", store=store, rank=own, world_size=num, timeout=_LONGEST_WAIT
        )
    finally:
        if usual is None:
            os.environ.pop(name, None)
    _State.shares = True
    try:
        yield
    finally:
        _State.shares = False
        dist.destroy_process_group()


@contextmanager
def alone() -> Iterator[None]:
    """In here this process computes by itself, as if there were no others."""
    before, _State.alone = _State.alone, True
    try:
        yield
    finally:
        _State.alone = before


def _meeting_place() -> dict[str, typing.Any]:
    """Where processes that `torchrun --max-restarts` has started again find each other.

    It keeps one store for all attempts, in which the addresses of those before still are. Of
    several machines each counts its own attempts, so that only those of one can be told apart.
    """
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if attempt == "0" or os.environ.get("GROUP_WORLD_SIZE") != "1":
        return {}
    store, own, num = next(rendezvous("env://"))
    return {"store": PrefixStore(f"attempt-{attempt}", store), "rank": own, "world_size": num}
