"""Where the time of a training step goes: a table for people, a trace for a viewer."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from speechssl import distributed
from speechssl.data.dataset import PlannedBatches, load_batches
from speechssl.device import finished_s
from speechssl.files import writing
from speechssl.pretext.task import PretextTask
from speechssl.training.loaders import num_loaders
from speechssl.training.loop import LoopConfig, Work
from speechssl.training.optim import OptimConfig, set_lr

_WARM, _STEPS = 3, 5
_NAMED = {
    "model.encoder": "encoder, forward",
    "model.context": "context network, forward",
}
"""Parts of the model that have a line of their own; each task has one too."""
_ROWS = 10


@dataclass(frozen=True)
class StepProfile:
    """Seconds of a step by part; they add up to `step_s`."""

    step_s: float
    parts: dict[str, float]
    audio_s_per_s: float

    def table(self) -> str:
        """Ten lines: parts by their share, the rest in one."""
        ordered = sorted(self.parts.items(), key=lambda part: -part[1])
        shown, rest = ordered[: _ROWS - 1], ordered[_ROWS - 1 :]
        if rest:
            shown.append(("the rest", sum(seconds for _, seconds in rest)))
        width = max(len(name) for name, _ in shown)
        lines = [
            f"  {name:<{width}}  {1000 * seconds:8.1f} ms  {seconds / self.step_s:6.1%}"
            for name, seconds in shown
        ]
        head = f"A step takes {1000 * self.step_s:.0f} ms ({self.audio_s_per_s:.0f} s of audio/s):"
        return "\n".join([head, *lines])


def profile_steps(
    work: Work,
    optimizer: torch.optim.Optimizer,
    dataset: PlannedBatches,
    loop: LoopConfig,
    optim: OptimConfig,
    out: Path,
) -> StepProfile:
    """Profile a few steps of a run that is about to start, without changing it.

    Writes ``out/trace.json`` (for chrome://tracing or ui.perfetto.dev) and ``out/table.txt``. The
    optimizer runs at a learning rate of zero, and forgets its moments afterwards.
    """
    device = next(work.modules.parameters()).device
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    set_lr(optimizer, 0.0)
    spent: defaultdict[str, float] = defaultdict(float)
    samples = 0

    @contextmanager
    def part(name: str) -> Iterator[None]:
        start = finished_s(device)
        with record_function(name):
            yield
        spent[name] += finished_s(device) - start

    def step(number: int) -> int:
        with part("waiting for data"):
            batches = [next(fetched) for _ in range(loop.accumulate)]
        with part("backward, and what is left"):
            work.backward(number, loop.max_steps, batches)
        with part("clipping"):
            nn.utils.clip_grad_norm_(work.modules.parameters(), optim.clip_norm)
        with part("optimizer"):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return sum(batch.num_samples for batch in batches)

    batches = load_batches(
        dataset, 0, (_WARM + _STEPS) * loop.accumulate, num_workers=num_loaders(loop, device)
    )
    with closing(batches) as fetched, ExitStack() as hooks:
        named = _named_parts(work)
        for name, module in work.modules.named_modules():
            if name in named:
                _time_forward(module, named[name], spent, device, hooks)
        for number in range(_WARM):
            step(number)
        spent.clear()
        with profile(activities=activities, acc_events=True) as trace:
            start = finished_s(device)
            for number in range(_WARM, _WARM + _STEPS):
                samples += step(number)
            total = finished_s(device) - start
    optimizer.state.clear()
    forward = sum(spent[name] for name in set(named.values()))
    spent["backward, and what is left"] -= forward
    spent["between the parts"] = total - sum(spent.values())
    parts = {name: seconds / _STEPS for name, seconds in spent.items()}
    result = StepProfile(total / _STEPS, parts, samples / dataset.waves.sample_rate / total)
    if distributed.rank() == 0:
        _write(result, trace, out)
    return result


def _write(result: StepProfile, trace: profile, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    trace.export_chrome_trace(str(out / "trace.json"))
    with writing(out / "table.txt") as file:
        file.write(result.table() + "\n")


def _named_parts(work: Work) -> dict[str, str]:
    """The modules that have a line of their own, and its title."""
    tasks = {
        name: f"task {name}, forward"
        for name, module in work.modules.named_children()
        if isinstance(module, PretextTask)
    }
    return _NAMED | tasks


def _time_forward(
    module: nn.Module,
    name: str,
    spent: defaultdict[str, float],
    device: torch.device,
    hooks: ExitStack,
) -> None:
    """Count the seconds of a module's forward, and mark it in the trace, until `hooks` closes."""
    begun: list[tuple[float, record_function]] = []

    def enter(*_: object) -> None:
        mark = record_function(name)
        mark.__enter__()
        begun.append((finished_s(device), mark))

    def leave(*_: object) -> None:
        start, mark = begun.pop()
        spent[name] += finished_s(device) - start
        mark.__exit__(None, None, None)

    hooks.callback(module.register_forward_pre_hook(enter).remove)
    hooks.callback(module.register_forward_hook(leave).remove)
