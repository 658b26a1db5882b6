"""docs/elan.md: from a session of ELAN to a model and its hypotheses back as a tier, by the three
commands of the page, on a small session."""

from pathlib import Path

import numpy as np
import pytest

from speechssl.annotations import read
from speechssl.cli import main
from speechssl.data.manifest import read_manifest
from speechssl.rng import rng
from tests.annotations.eafs import small
from tests.test_readme import blocks, commands, page_text

av = pytest.importorskip("av")
pytestmark = pytest.mark.extras

QUICK = (
    *("--max-steps", "3", "--budget-minutes", "0.1", "--processes", "1"),
    *("--loop.num-workers", "0", "--batch-s", "6"),
)
"""A few updates of a toy, and no more."""


def video(path: Path, seconds: int) -> Path:
    """An mp4 of noise whose loudness changes, as of phrases."""
    rate = 16000
    loud = np.repeat(rng(0, "session").uniform(0.02, 0.5, seconds * 4), rate // 4)
    wave = (loud * rng(1, "session").uniform(-1, 1, seconds * rate)).astype(np.float32)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=rate, layout="mono")
        resampler = av.AudioResampler(stream.codec_context.format.name, "mono", rate, 1024)
        frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        for each in (*resampler.resample(frame), *resampler.resample(None), None):
            container.mux(stream.encode(each))
    return path


def test_three_commands_from_a_session_to_its_hypotheses(
    tmp_path, monkeypatch, tiny_models, capsys
):
    monkeypatch.chdir(tmp_path)
    video(tmp_path / "session.mp4", 24)
    rows = [
        (2.0 * k, 2.0 * k + 1.5, f"wo abi{'a' * (k % 3)} obe {'xyz'[k % 3]}{k}") for k in range(11)
    ]
    translation = [(a, b, "other words") for a, b, _ in rows]
    text = small({"tx@Obia": rows, "ft@Obia": translation}, media="file:///D:/2019/session.mp4")
    (tmp_path / "session.eaf").write_text(text, encoding="utf-8")
    shown = list(commands(blocks(page_text("elan.md"), "bash")[0]))
    assert [line[0] for line in shown] == ["prepare", "finetune", "transcribe"]
    prepare, finetune, transcribe = shown

    assert main(prepare) == 0
    utterances = [
        u for n in ("train", "dev", "test") for u in read_manifest(tmp_path / "data" / f"{n}.jsonl")
    ]
    labeled = {u.text: (u.start_s, u.duration_s) for u in utterances if u.text}
    assert labeled == {said: (start, 1.5) for start, _, said in rows}

    finetune[finetune.index("seed")] = str(tiny_models["speech"])
    budget = finetune.index("--budget-minutes")
    assert main([*finetune[:budget], *QUICK]) == 0

    assert main(transcribe) == 0
    tiers = {tier.name: tier for tier in read(tmp_path / "hypotheses" / "session.eaf").tiers}
    assert list(tiers) == ["tx@Obia", "ft@Obia", "speechssl"]
    assert [s.text for s in tiers["tx@Obia"].segments] == [said for *_, said in rows]
    assert all(0 <= s.start_s < s.end_s <= 24.1 for s in tiers["speechssl"].segments)
    assert (tmp_path / "session.eaf").read_text(encoding="utf-8") == text
    assert "Traceback" not in capsys.readouterr().err
