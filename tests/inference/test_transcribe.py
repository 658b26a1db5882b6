"""Transcription: the same text whatever is batched together, times inside the file, bad input."""

import copy
import dataclasses
import json

import numpy as np
import pytest
import torch

import speechssl
from speechssl import audio
from speechssl.audio import AudioError, AudioWarning
from speechssl.checkpoint import load_model
from speechssl.cli import main
from speechssl.decoding.align import Word, align
from speechssl.decoding.greedy import greedy_decode
from speechssl.decoding.lm import read_arpa, train_lm, write_arpa
from speechssl.inference.batching import runs_alone
from speechssl.inference.decoders import choose_decoder
from speechssl.inference.recordings import Clip, as_clip
from speechssl.inference.transcribe import (
    Unreadable,
    log_probs,
    transcribe,
    transcribe_all,
)
from speechssl.inference.transcript import PAUSE_S, Transcript, to_segments
from speechssl.inference.writers import WRITERS
from speechssl.model.fast.accelerate import int8_is_fast


@pytest.fixture(params=["ctc", "conv"])
def checkpoint(request, tiny_models):
    return load_model(tiny_models[request.param])


def test_batches_change_nothing(checkpoint, record):
    paths = [record(f"{s}.wav", s) for s in (0.01, 0.5, 3.1, 1.7, 6.0, 0.9)]
    alone = [transcribe(checkpoint, path) for path in paths]
    for batch_s in (0.1, 5.0, 60.0):
        clips = map(as_clip, paths)
        assert [t.text for t in transcribe_all(checkpoint, clips, batch_s=batch_s)] == [
            t.text for t in alone
        ]
    assert len({t.text for t in alone}) == len(paths)  # the model says something of its own to each


def test_log_probs_do_not_depend_on_the_batch(checkpoint, record):
    model, _ = checkpoint.require_ctc()
    waves = [audio.read(record(f"{s}.wav", s)) for s in (0.3, 4.0, 1.1)]
    batch, rows = log_probs(model, waves)
    for i, wave in enumerate(waves):
        alone, num = log_probs(model, [wave])
        assert int(num) == int(rows[i])
        assert torch.allclose(batch[i, : int(num)], alone[0], atol=1e-4)


def test_bf16_is_another_arithmetic(checkpoint, record):
    model, _ = checkpoint.require_ctc()
    waves = [audio.read(record("a.wav", 1.0))]
    rough, exact = (log_probs(model, waves, p)[0] for p in ("bf16", "fp32"))
    assert rough.dtype == torch.float32
    assert 0 < float((rough.exp() - exact.exp()).abs().max()) < 0.9
    with pytest.raises(ValueError, match="precision must be one of auto, bf16, fp32, got 'fp8'"):
        log_probs(model, waves, "fp8")


@pytest.mark.skipif(not int8_is_fast(torch.device("cpu")), reason="needs VNNI instructions")
def test_in_8_bits_each_chunk_is_a_batch(checkpoint, record):
    paths = [record(f"{s}.wav", s) for s in (0.01, 3.1, 1.7, 0.9)]
    alone = [transcribe(checkpoint, path, precision="int8") for path in paths]
    clips = map(as_clip, paths)
    together = list(transcribe_all(checkpoint, clips, precision="int8", batch_s=60.0))
    assert [t.text for t in together] == [t.text for t in alone]
    exact = [transcribe(checkpoint, path, precision="fp32") for path in paths]
    assert [t.confidence for t in alone] != [t.confidence for t in exact]


def test_times_are_the_forced_alignment_of_the_text(checkpoint, record):
    path = record("a.wav", 4.0)
    model, tokenizer = checkpoint.require_ctc()
    rows, lengths = log_probs(model, [audio.read(path)])
    (hypothesis,) = greedy_decode(rows, lengths)
    aligned = align(rows[0].numpy(), hypothesis.ids)
    assert [(t.start_frame, t.end_frame) for t in hypothesis.tokens] == [
        (t.start_frame, t.end_frame) for t in aligned.tokens
    ]
    words = transcribe(checkpoint, path).words
    first = next(t for t in aligned.tokens if tokenizer.decode([t.id]))
    assert words[0].start_s == pytest.approx(first.start_frame * model.hop_s)


@pytest.mark.parametrize("rate", [8000, 16000, 96000])
@pytest.mark.parametrize("duration_s", [0.02, 0.7, 9.3])
def test_times_rise_and_lie_within_the_file(checkpoint, record, rate, duration_s):
    path = record("a.wav", duration_s, rate, channels=2)
    (found,) = transcribe_all(checkpoint, [as_clip(path)], max_chunk_s=2.0)
    seconds = audio.probe(path).duration_s
    assert found.duration_s == pytest.approx(seconds, abs=1 / 16000)
    times = [t for w in found.words for t in (w.start_s, w.end_s)]
    assert times == sorted(times)
    assert all(0 <= t <= seconds + 1e-9 for t in times)
    assert found.text == " ".join(w.text for w in found.words)
    assert 0 <= found.confidence <= 1
    if duration_s > 2:
        assert times[-1] > seconds - 2  # chunks after the first are placed where they are


def test_a_long_file_is_its_chunks_joined(checkpoint, record, tmp_path):
    wave = audio.read(record("a.wav", 9.3))
    for second in range(1, 9):  # pauses to cut at
        wave[16000 * second : 16000 * second + 4000] = 0
    audio.write(path := tmp_path / "paused.wav", wave, 16000)
    from speechssl.inference.recordings import chunks

    hop = checkpoint.speech.config.hop_samples
    parts = [c.wave for c in chunks(as_clip(path), 16000, grid=hop, max_chunk_s=2.0)]
    (found,) = transcribe_all(checkpoint, [as_clip(path)], max_chunk_s=2.0)
    alone = [transcribe(checkpoint, wave).text for wave in parts]
    assert len(parts) >= 5
    assert found.text == " ".join(text for text in alone if text)


def test_three_samples(checkpoint, tmp_path):
    audio.write(tmp_path / "a.wav", np.full(3, 0.1, np.float32), 16000)
    found = transcribe(checkpoint, tmp_path / "a.wav")
    assert found.duration_s == 3 / 16000
    assert all(w.end_s <= found.duration_s for w in found.words)


def test_digital_silence_says_nothing(checkpoint, tmp_path):
    audio.write(tmp_path / "a.wav", np.zeros(16000, np.float32), 16000)
    found = transcribe(checkpoint, tmp_path / "a.wav")
    assert (found.text, found.segments, found.confidence) == ("", (), 1.0)


def test_what_is_missing_of_a_recording_is_said(checkpoint, record, tmp_path):
    whole, cut = record("a.wav", 2.0), tmp_path / "cut.wav"
    cut.write_bytes(whole.read_bytes()[:32044])
    first, second = transcribe_all(checkpoint, map(as_clip, [whole, cut]))
    assert first.notes == ()
    assert len(second.notes) == 1
    assert "cut.wav is cut off or damaged: 1.000 s of the 2.000 s" in second.notes[0]
    assert second.duration_s == 1.0
    with pytest.warns(AudioWarning, match=r"cut\.wav is cut off"):
        assert transcribe(checkpoint, cut).text == second.text


@pytest.mark.parametrize("peak_dbfs", [-70, -51, -49, -10])
@pytest.mark.parametrize("normalizes", [True, False])
def test_a_recording_that_is_too_quiet_for_the_model(tiny_models, peak_dbfs, normalizes):
    checkpoint = load_model(tiny_models["ctc"])
    speech = checkpoint.speech
    speech.config = dataclasses.replace(speech.config, normalize_wave=normalizes)
    wave = np.sin(np.arange(8000) / 9).astype(np.float32) * 10 ** (peak_dbfs / 20)
    (found,) = transcribe_all(checkpoint, [Clip("far away", wave)])
    quiet = [note for note in found.notes if note.startswith("far away is very quiet")]
    assert len(quiet) == (peak_dbfs < -50 and not normalizes)
    assert all(f"its peak is at {peak_dbfs} dBFS" in note for note in quiet)


def test_an_unreadable_file_among_many(checkpoint, record, tmp_path):
    good = record("good.wav", 1.0)
    text, empty, gone = tmp_path / "text.wav", tmp_path / "empty.wav", tmp_path / "gone.wav"
    text.write_text("I am not sound.")
    audio.write(empty, np.zeros(0, np.float32), 16000)
    results = list(transcribe_all(checkpoint, map(as_clip, [text, good, empty, gone, good])))
    bad = [r.audio for r in results if isinstance(r, Unreadable)]
    assert bad == [str(text), str(empty), str(gone)]
    texts = [r.text for r in results if not isinstance(r, Unreadable)]
    assert texts == [transcribe(checkpoint, good).text] * 2
    assert "cannot be opened as sound" in str(results[0])
    assert "holds no samples" in str(results[2])


def test_one_bad_file_raises(checkpoint, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No such recording: .*gone\.wav"):
        transcribe(checkpoint, tmp_path / "gone.wav")
    (tmp_path / "text.wav").write_text("I am not sound.")
    with pytest.raises(AudioError, match=r"text\.wav cannot be opened as sound"):
        transcribe(checkpoint, tmp_path / "text.wav")


def test_a_pretrained_model_cannot_transcribe(tiny_models, record):
    with pytest.raises(ValueError, match="pretrained but not fine-tuned"):
        transcribe(load_model(tiny_models["speech"]), record("a.wav", 1.0))


def test_a_cpu_runs_alone_what_a_batch_would_change_or_slow_down(tiny_models, monkeypatch):
    model = load_model(tiny_models["conv"]).model
    assert [runs_alone(model, p) for p in ("fp32", "bf16", "int8")] == [False, True, True]
    assert not runs_alone(copy.deepcopy(model).to("meta"), "bf16")
    monkeypatch.setattr("speechssl.inference.batching.LARGE", 100)
    assert runs_alone(model, "fp32")


def test_impossible_batches(checkpoint):
    with pytest.raises(ValueError, match="batch_s and max_chunk_s must be above 0, got 0 and 30"):
        next(transcribe_all(checkpoint, [], batch_s=0))


# ---- segments and formats -----------------------------------------------------------------------

WORDS = [
    Word("one", 0.5, 1.0, 0.5),
    Word("<two>", 1.2, 1.5, 0.25),
    Word("three", 1.5 + PAUSE_S, 3661.0016, 0.9),
]


@pytest.fixture
def spoken() -> Transcript:
    return Transcript("a\tb.wav", 3661.0019, to_segments(WORDS), 0.5)


def test_segments_end_at_pauses_and_after_a_while():
    assert [s.text for s in to_segments(WORDS)] == ["one <two>", "three"]
    steady = [Word("w", 0.5 * i, 0.5 * i + 0.4, 1.0) for i in range(40)]
    segments = to_segments(steady)
    assert [w for s in segments for w in s.words] == steady
    assert len(segments) == 3
    assert all(s.end_s - s.start_s <= 7 for s in segments)
    assert to_segments([]) == ()


def test_confidence_of_a_segment_is_the_geometric_mean(spoken):
    assert spoken.segments[0].confidence == pytest.approx((0.5 * 0.25) ** 0.5)


def test_json(spoken):
    (line,) = WRITERS["json"](spoken).splitlines()
    data = json.loads(line)
    assert set(data) == {"audio", "duration_s", "text", "confidence", "segments"}
    assert data["text"] == "one <two> three"
    assert data["duration_s"] == 3661.0019
    assert [set(s) for s in data["segments"]] == [
        {"start_s", "end_s", "text", "confidence", "words"}
    ] * 2
    last = data["segments"][1]
    assert last["end_s"] == 3661.001  # never rounded up past the end
    assert last["words"] == [
        {"word": "three", "start_s": 2.1, "end_s": 3661.001, "confidence": 0.9}
    ]


def test_subtitles(spoken):
    assert WRITERS["srt"](spoken) == (
        "1\n00:00:00,500 --> 00:00:01,500\none <two>\n\n2\n00:00:02,100 --> 00:00:09,100\nthree\n\n"
    )
    assert WRITERS["vtt"](spoken) == (
        "WEBVTT\n\n00:00:00.500 --> 00:00:01.500\none &lt;two&gt;\n\n"
        "00:00:02.100 --> 00:00:09.100\nthree\n\n"  # a word of an hour is shown for 7 s
    )


def test_table_and_text(spoken):
    header, *rows = [line.split("\t") for line in WRITERS["tsv"](spoken).splitlines()]
    assert header == ["audio", "start_s", "end_s", "confidence", "text"]
    assert rows[0] == ["a b.wav", "0.500", "1.500", "0.3536", "one <two>"]
    assert WRITERS["txt"](spoken) == "one <two> three\n"


def test_a_language_model_is_read_once_until_it_changes(tiny_models, tmp_path, monkeypatch):
    checkpoint, path, read = load_model(tiny_models["ctc"]), tmp_path / "lm.arpa", []

    def counting(asked):
        read.append(asked)
        return read_arpa(asked)

    monkeypatch.setattr("speechssl.inference.decoders.read_arpa", counting)
    for texts, reads in ((["abc"], 1), (["abc", "def abc"], 2)):
        write_arpa(train_lm(texts, order=2, unit="char"), path)
        for _ in range(2):
            choose_decoder(checkpoint, lm=path)
        assert len(read) == reads
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"no language model .*lm\.arpa"):
        choose_decoder(checkpoint, lm=path)


def test_what_a_language_model_of_another_tool_lacks_is_said(tiny_models, record, tmp_path, capsys):
    letters = load_model(tiny_models["ctc"]).require_ctc()[1].symbols[3:]
    entries = "".join(f"-1\t{letter}\n" for letter in letters)
    lm = tmp_path / "lm.arpa"
    lm.write_text(f"\\data\\\nngram 1={len(letters)}\n\n\\1-grams:\n{entries}\n\\end\\\n", "utf-8")
    wave = record("a.wav", 0.5)
    assert main(["transcribe", str(tiny_models["ctc"]), str(wave), "--lm", str(lm)]) == 0
    said = capsys.readouterr().err
    assert "speechssl: lm.arpa has no probability for <unk>" in said
    assert "speechssl: The language model has no token for the space" in said
    with pytest.warns(UserWarning, match="no probability for <unk>|no token for the space"):
        speechssl.transcribe(load_model(tiny_models["ctc"]), wave, lm=lm)
