"""The parts of a micro-batch, as several processes have them, are the micro-batch of one."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.distributed import HashStore

from speechssl.data.dataset import Waves
from speechssl.model.config import ConvEncoderConfig
from speechssl.model.fast.accelerate import plain
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.task import MaskConfig, combine
from speechssl.pretext.tasks import TASKS, TaskConfigs
from speechssl.pretext.teacher import Recogniser
from speechssl.text import CharTokenizer, PhoneTokenizer
from speechssl.training import finetune_work
from speechssl.training.adapt import build_head
from speechssl.training.alphabets import Alphabets
from speechssl.training.finetune import CTCModel, FinetuneWork
from speechssl.training.job import Job, Order
from speechssl.training.parts import drawn_as_whole, summed, why_whole
from speechssl.training.pretrain import PretrainWork, build_model, check_tasks
from speechssl.training.processes import Sharing
from speechssl.training.states import Progress
from tests.pretext.small import CONTRASTS_THE_BATCH, SMALL
from tests.training.conftest import model_to_start_from, tone_utterances

TOKENIZER = CharTokenizer.train(["abcdef"])
WHOLE = CONTRASTS_THE_BATCH | {"contrastive", "direct_pred"}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def waves(tmp_path_factory) -> Waves:
    """Utterances of 0.6 to 1.6 s."""
    folder = tmp_path_factory.mktemp("waves")
    spoken = [u for letters in (3, 5, 8) for u in tone_utterances(folder, 3, letters, letters)]
    return Waves.open(spoken, folder / "cache", 16000, False)


def alphabets(config) -> Alphabets:
    init = model_to_start_from(config)
    recogniser = None if init is None else Recogniser.frozen(*init.require_ctc())
    return Alphabets(TOKENIZER, PhoneTokenizer.train(["a b c d e f"]), recogniser)


def pretraining(config, waves) -> PretrainWork:
    torch.manual_seed(0)
    model = build_model(config, None)
    return PretrainWork(config, model, waves, waves, CPU, fit=False, alphabets=alphabets(config))


def dropping(config, p=0.3):
    context = replace(config.model.context, dropout=p, attention_dropout=p, activation_dropout=p)
    return replace(config, model=replace(config.model, context=context, latent_dropout=p))


def gradients(work) -> torch.Tensor:
    grads = [p.grad.flatten() for p in work.modules.parameters() if p.grad is not None]
    work.modules.zero_grad(set_to_none=True)
    return torch.cat(grads)


def gradients_of(work, batches, counts):
    for batch in batches:
        torch.manual_seed(batch.index)
        with drawn_as_whole(batch, work.model):
            combine(work.losses(work.inputs(batch)).terms, counts).backward()
    return gradients(work)


def assert_parts_are_the_whole(work, dataset, world, index=1):
    whole = dataset[index]
    parts = [dataset.shared(rank, world)[index] for rank in range(world)]
    parts = [part for part in parts if part.ids]
    assert sorted(sum((part.ids for part in parts), ())) == sorted(whole.ids)
    counts = work._count([work.inputs(whole)])
    assert summed([work._count([work.inputs(part)]) for part in parts]) == counts
    one, several = (gradients_of(work, batches, counts) for batches in ([whole], parts))
    assert float((one - several).norm()) < 1e-5 * float(one.norm())


@pytest.mark.parametrize("name", [name for name in TASKS if name not in WHOLE])
def test_parts_of_every_task_add_up(name, waves, pretrain_config):
    model = pretrain_config.model
    causal = replace(model, context=replace(model.context, causal=True), running_norm=True)
    needs_causal = name in ("future_frames", "future_units", "wav2vec")
    config = replace(
        pretrain_config,
        model=causal if needs_causal else model,
        tasks=TaskConfigs((SMALL[name],)),
    )
    work = pretraining(config, waves)
    assert_parts_are_the_whole(work, work.dataset(waves, shuffle=True), 2)


@pytest.mark.parametrize("world", [2, 3, 5])
@pytest.mark.parametrize("form", ["fast", "plain"])
def test_dropout_drops_the_same_in_parts(form, world, waves, pretrain_config):
    """Where the last processes have no utterance, too."""
    config = dropping(pretrain_config)
    if form == "plain":  # whose fused attention draws by itself
        context = replace(config.model.context, attention_dropout=0.0)
        config = replace(config, model=replace(config.model, context=context))
    work = pretraining(config, waves)
    if form == "plain":
        plain(work.model)
    assert_parts_are_the_whole(work, work.dataset(waves, shuffle=True), world)


def test_a_convolutional_encoder_and_masks_of_spans(waves, pretrain_config):
    conv = ConvEncoderConfig(dims=(16, 16, 16), kernels=(10, 8, 8), strides=(5, 8, 8))
    config = replace(pretrain_config, mask=MaskConfig(share=0.4, span=3))
    work = pretraining(replace(config, model=replace(config.model, encoder=conv)), waves)
    assert_parts_are_the_whole(work, work.dataset(waves, shuffle=True), 2)


@pytest.mark.parametrize("changes", [{}, {"mask_share": 0.3, "channel_share": 0.3}])
@pytest.mark.parametrize("consistency", [0.0, 0.2])
def test_parts_of_finetuning_add_up(consistency, changes, waves, finetune_config, monkeypatch):
    config = dropping(replace(finetune_config, consistency=consistency, **changes))
    torch.manual_seed(0)
    speech = SpeechModel(config.model)
    model = CTCModel(speech, build_head(config, speech, TOKENIZER, None)[0])
    work = FinetuneWork(config, model, TOKENIZER, waves, CPU, pretrained=False)
    dataset = work.valid_batches
    whole = dataset[0]
    parts = [dataset.shared(rank, 3)[0] for rank in range(3)]
    num = torch.tensor(float(sum(len(TOKENIZER.encode(text)) for text in whole.texts)))
    alone = SimpleNamespace(all_reduce_sum=lambda _: num, world=lambda: 1)
    monkeypatch.setattr(finetune_work, "distributed", alone)
    lost = [work.backward(9, 10, [whole])["loss/ctc"]]
    one = gradients(work)
    lost += [work.backward(9, 10, [part])["loss/ctc"] for part in parts]
    assert float((one - gradients(work)).norm()) < 1e-5 * float(one.norm())
    torch.testing.assert_close(lost[0], torch.stack(lost[1:]).sum(), rtol=1e-5, atol=0)


def test_measuring_leaves_no_trace(waves, pretrain_config):
    work = pretraining(pretrain_config, waves)
    before = {name: value.clone() for name, value in work.modules.state_dict().items()}
    job = Job(
        Path("run"),
        work,
        torch.optim.AdamW(work.modules.parameters()),
        work.dataset(waves, shuffle=True),
        Progress(),
        pretrain_config.loop,
        pretrain_config.optim,
        resume=False,
        started=0.0,
    )
    threads = torch.get_num_threads()
    with job.together(Order("measure", 1, threads), 0, HashStore()):
        speeds = job.measure(threads, threads)
    assert 0.2 < speeds.together / speeds.alone < 5  # the same work
    assert not torch.distributed.is_initialized()
    assert torch.get_num_threads() == threads
    assert all(p.grad is None for p in work.modules.parameters())
    assert all(torch.equal(before[n], v) for n, v in work.modules.state_dict().items())


# --- what cannot be cut ---------------------------------------------------------------------------


def test_tasks_that_need_whole_micro_batches_say_so(pretrain_config):
    for name in TASKS:
        config = SMALL[name]
        model = pretrain_config.model
        causal = replace(model, context=replace(model.context, causal=True), running_norm=True)
        speech = SpeechModel(causal)
        own = replace(pretrain_config, model=causal, tasks=TaskConfigs((config,)))
        reason = why_whole(own, check_tasks(own, speech, alphabets(own)))
        assert bool(reason) == (name in WHOLE), name
        assert name in reason or not reason


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"balance": "gradient"}, "balance gradient measures whole"),
        ({"mask": MaskConfig(speech_only=True)}, "masks of speech only"),
    ],
)
def test_settings_that_need_whole_micro_batches(changes, said, pretrain_config):
    config = replace(pretrain_config, **changes)
    reason = why_whole(config, check_tasks(config, SpeechModel(config.model), alphabets(config)))
    assert said in reason
    with pytest.raises(ValueError, match=f"--processes 2 would cut .*{said}.*accumulate that 2"):
        Sharing(2, reason).check(config)
    Sharing(2, reason).check(replace(config, loop=replace(config.loop, accumulate=4)))


def test_dropout_in_segments_is_not_cut(pretrain_config):
    config = replace(pretrain_config, tasks=TaskConfigs((SMALL["cbow"],)))
    for own, is_whole in ((config, False), (dropping(config), True)):
        tasks = check_tasks(own, SpeechModel(own.model), alphabets(own))
        assert ("segments of the task cbow" in why_whole(own, tasks)) == is_whole
