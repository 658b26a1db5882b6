"""Training on a GPU: the numbers of the CPU, and a host that does not wait in a step."""

import json
import shutil
import warnings
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from speechssl.data.dataset import Waves
from speechssl.device import pick_device
from speechssl.model.config import ContextConfig, ConvEncoderConfig, ModelConfig
from speechssl.model.heads import CTCHead
from speechssl.model.speech_model import CTCModel, SpeechModel
from speechssl.pretext.contrastive import ContrastiveConfig
from speechssl.pretext.reconstruction import ReconstructionConfig
from speechssl.pretext.tasks import TaskConfigs
from speechssl.text import CharTokenizer
from speechssl.training.finetune import FinetuneWork, finetune
from speechssl.training.optim import OptimConfig, Part, build_optimizer
from speechssl.training.planner import plan_run
from speechssl.training.pretrain import PretrainWork, pretrain
from speechssl.training.resume import newest_state

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore:Synchronization debug mode:UserWarning"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

CPU = torch.device("cpu")
PUBLISHED = ModelConfig(
    encoder=ConvEncoderConfig(dims=(16,) * 7),
    context=ContextConfig(
        dim=32,
        num_layers=2,
        num_heads=4,
        ffn_dim=40,
        pos_kernel=8,
        pos_groups=4,
        dropout=0.0,
        attention_dropout=0.0,
        layerdrop=0.0,
    ),
)
GUMBEL = TaskConfigs(
    (
        ContrastiveConfig(target_dim=16, entries=12, num_negatives=5),
        ReconstructionConfig(),
    )
)
KINDS = {
    "kmeans": {},
    "recurrent": {"upper": "gru"},
    "gumbel": {"model": PUBLISHED, "tasks": GUMBEL, "encoder_grad_scale": 0.1},
}


def changed(config, kind):
    """The config of a kind of run."""
    change = dict(KINDS[kind])
    if upper := change.pop("upper", None):
        change["model"] = replace(
            config.model, context=replace(config.model.context, upper=upper, local_layers=1)
        )
    return replace(config, **change)


def pretraining(config, tones, folder, device):
    """The work of a run, and two of its batches."""
    waves = Waves.open(tones[0], folder / "cache", 16000, False)
    torch.manual_seed(0)
    work = PretrainWork(config, SpeechModel(config.model), waves, waves, device)
    dataset = work.dataset(waves, shuffle=True)
    return work, [dataset[0], dataset[1]]


def finetuning(config, tones, folder, device):
    waves = Waves.open(tones[0], folder / "cache", 16000, False)
    tokenizer = CharTokenizer.train([u.text for u in tones[0]])
    torch.manual_seed(0)
    head = CTCHead(config.model.context.dim, tokenizer.vocab_size)
    model = CTCModel(SpeechModel(config.model), head)
    work = FinetuneWork(config, model, tokenizer, waves, device, False)
    return work, [work.valid_batches[0]]


def losses_and_gradients(work, batches):
    if getattr(work.config, "tasks", None) == GUMBEL:  # drawn, on each device others
        work.modules.eval()
    logged = work.backward(50, 100, batches)
    grads = {
        name: p.grad.cpu() for name, p in work.modules.named_parameters() if p.grad is not None
    }
    return {name: float(value) for name, value in logged.items()}, grads


@pytest.mark.parametrize("kind", [*KINDS, "ctc"])
def test_the_numbers_are_those_of_the_cpu(kind, tones, pretrain_config, finetune_config, tmp_path):
    found = []
    for device in (CPU, pick_device("cuda")):
        if kind == "ctc":
            config = replace(finetune_config, consistency=0.2, mask_share=0.3, channel_share=0.2)
            made = finetuning(config, tones, tmp_path, device)
        else:
            made = pretraining(changed(pretrain_config, kind), tones, tmp_path, device)
        found.append(losses_and_gradients(*made))
    (losses, grads), (their_losses, their_grads) = found
    assert losses == pytest.approx(their_losses, rel=1e-3, abs=1e-4)
    assert grads.keys() == their_grads.keys()
    for name, grad in grads.items():
        gap = (their_grads[name] - grad).norm() / grad.norm().clamp_min(1e-6)
        assert gap < 1e-2, name


def test_a_validation_goes_back_through_recurrent_layers(tones, pretrain_config, tmp_path):
    """cuDNN's recurrent layers do that in training mode alone."""
    found = []
    for device in (CPU, pick_device("cuda")):
        config = changed(pretrain_config, "recurrent")
        work, _ = pretraining(config, tones, tmp_path, device)
        work.modules.eval()
        found.append(work.gradients(0))
        assert not any(module.training for module in work.modules.modules())
    assert found[1] == pytest.approx(found[0], rel=1e-2, abs=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", [*KINDS, "ctc"])
def test_a_step_does_not_wait(
    kind, precision, tones, pretrain_config, finetune_config, tmp_path, monkeypatch
):
    device = pick_device("cuda")
    if kind == "ctc":
        # All but torch's own CTC, which sends the lengths from memory that is not pinned.
        monkeypatch.setattr(F, "ctc_loss", lambda log_probs, *_, **__: log_probs.sum())
        config = replace(
            finetune_config,
            precision=precision,
            consistency=0.2,
            mask_share=0.3,
            channel_share=0.2,
            mask_from_share=0.0,
        )
        work, batches = finetuning(config, tones, tmp_path, device)
    else:
        config = replace(changed(pretrain_config, kind), precision=precision)
        work, batches = pretraining(config, tones, tmp_path, device)
    optimizer = build_optimizer(OptimConfig(), [Part((work.modules,))])
    for number in range(3):  # the first time libraries are made ready
        torch.cuda.set_sync_debug_mode("error" if number else "default")
        try:
            work.backward(number, 100, batches)
            torch.nn.utils.clip_grad_norm_(work.modules.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        finally:
            torch.cuda.set_sync_debug_mode("default")


def waits(config, tones, out):
    """How often a whole run waits for the device."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            pretrain(config, tones[0], out, valid_set=tones[1])
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing CUDA operation" in str(w.message) for w in caught)


def test_an_update_waits_once(tones, pretrain_config, tmp_path):
    counts = []
    for steps in (4, 4, 9):  # the first one makes libraries ready
        loop = replace(
            pretrain_config.loop,
            max_steps=steps,
            num_validations=1,
            log_every=100,
            checkpoint_every=100,
        )
        config = replace(pretrain_config, loop=loop)
        counts.append(waits(config, tones, tmp_path / f"{len(counts)}"))
    assert counts[2] - counts[1] == 9 - 4


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_goes_on_to_the_same_numbers(kind, precision, tones, pretrain_config, tmp_path):
    config = replace(changed(pretrain_config, kind), precision=precision)
    config = replace(config, loop=replace(config.loop, keep_checkpoints=9))
    run = tmp_path / "run"
    pretrain(config, tones[0], run, valid_set=tones[1])
    whole = newest_state(run).tensors()
    for folder in (run / "checkpoints").iterdir():
        if folder.name != "step-00000005":
            shutil.rmtree(folder)
    pretrain(config, tones[0], run, valid_set=tones[1])
    again = newest_state(run).tensors()
    assert whole.keys() == again.keys()
    assert not [name for name in whole if not torch.equal(whole[name], again[name])]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_compiled_step(tones, pretrain_config, tmp_path):
    found = []
    for compiled in (False, True):
        config = replace(pretrain_config, compile=compiled)
        found.append(
            losses_and_gradients(*pretraining(config, tones, tmp_path, pick_device("cuda")))
        )
    (losses, grads), (compiled_losses, compiled_grads) = found
    assert losses == pytest.approx(compiled_losses, rel=1e-4)
    assert grads.keys() == compiled_grads.keys()
    for name, grad in grads.items():
        torch.testing.assert_close(compiled_grads[name], grad, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("precision", ["auto", "fp32"])
def test_it_learns_to_write_tones_on_a_gpu(precision, tones, finetune_config, tmp_path):
    config = replace(finetune_config, precision=precision)
    outcome = finetune(config, *tones, tmp_path / "run", announce=True)
    assert outcome.best_score < 0.05


def test_memory_is_foreseen(tones, pretrain_config, tmp_path):
    device = pick_device("cuda")
    config = replace(pretrain_config, batch_s=40.0)
    work, _ = pretraining(config, tones, tmp_path, device)
    dataset = work.dataset(work.valid_batches.waves, shuffle=True)
    plan = plan_run(work, dataset, config.loop, config.batch_s, device)
    assert plan.free.total == torch.cuda.mem_get_info(device)[1]
    torch.cuda.reset_peak_memory_stats(device)
    work.backward(50, 100, [dataset[0]])
    assert torch.cuda.max_memory_allocated(device) < plan.needs(config.batch_s)


def test_a_profile_sees_the_gpu(tones, pretrain_config, tmp_path):
    config = replace(pretrain_config, loop=replace(pretrain_config.loop, max_steps=2))
    pretrain(config, tones[0], tmp_path / "run", valid_set=tones[1], profile=True)
    trace = json.loads((tmp_path / "run" / "profile" / "trace.json").read_text())
    assert any(event.get("cat") == "kernel" for event in trace["traceEvents"])
