"""The program that ELAN starts: ``python -m speechssl.elan.recognizer --model MODEL``.

It transcribes the recording, or each segment of a tier, and writes a tier of texts, and one of
words where ELAN asks for it.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, TextIO

from speechssl.annotations import Segment
from speechssl.cli import sentence_of
from speechssl.elan.protocol import Reporter, file_of, read_parameters, read_tier, tier_text
from speechssl.files import writing
from speechssl.system import utf8_streams

AUDIO, VIDEO, INPUT_TIER = "audio", "video", "input_tier"
OUTPUT_TIER, OUTPUT_WORDS = "output_tier", "output_words"
"""The names of the parameters, as the CMDI file has them."""

Recognise = Callable[[Path, Sequence[Segment], Callable[[float], None]], list[Segment]]
"""From a recording and the segments that are meant (none: all of it) to segments with texts and
words; the third argument is told the share that is done."""


def recogniser(model: str) -> Recognise:
    """What transcribes with a model; the errors are those of opening it."""
    from torch import Tensor

    from speechssl.decoding.greedy import Hypothesis, greedy_decode
    from speechssl.inference.batching import Unreadable
    from speechssl.inference.recordings import Clip
    from speechssl.inference.transcribe import Transcriber
    from speechssl.inference.transcript import Transcript
    from speechssl.inference.writers import annotations_of
    from speechssl.interop.sources import open_model

    checkpoint = open_model(model)
    hop_s = checkpoint.require_ctc()[0].hop_s

    def recognise(
        audio: Path, spans: Sequence[Segment], tell: Callable[[float], None]
    ) -> list[Segment]:
        total_s = sum(s.end_s - s.start_s for s in spans) if spans else _length(audio)
        done_s = 0.0

        def decode(log_probs: Tensor, lengths: Tensor) -> list[Hypothesis]:
            nonlocal done_s
            found = greedy_decode(log_probs, lengths)
            done_s += hop_s * int(lengths.sum())
            tell(min(done_s / total_s, 1.0))
            return found

        clips = [
            Clip(str(audio), audio, s.start_s, round(s.end_s - s.start_s, 6)) for s in spans
        ] or [Clip(str(audio), audio)]
        transcripts: list[Transcript] = []
        for result in Transcriber(checkpoint, decode=decode)(clips):
            if isinstance(result, Unreadable):
                raise result.error
            transcripts.append(result)
        if not spans:
            return list(annotations_of(transcripts[0]).tiers[0].segments)
        return [
            Segment(span.start_s, span.end_s, made.text, words=_moved(made, span))
            for span, made in zip(spans, transcripts, strict=True)
        ]

    def _moved(made: Transcript, span: Segment) -> tuple[Segment, ...]:
        """The words of a part of a recording, at their places in the whole."""
        words = [word for phrase in annotations_of(made).tiers[0].segments for word in phrase.words]
        return tuple(
            Segment(span.start_s + w.start_s, min(span.start_s + w.end_s, span.end_s), w.text)
            for w in words
        )

    return recognise


def _length(audio: Path) -> float:
    from speechssl.audio import probe

    return max(probe(audio).duration_s, 1e-3)


def run(data: bytes, report: Reporter, name: str, opened: Callable[[], Recognise]) -> None:
    """What the parameters on standard input (`data`) ask for. `name` is that of the tiers.

    Raises ValueError and OSError with a sentence for the person.
    """
    parameters = read_parameters(data)
    media = parameters.get(AUDIO) or parameters.get(VIDEO)
    if media is None:
        raise ValueError("No recording was chosen: choose one as the input in ELAN.")
    if OUTPUT_TIER not in parameters:
        raise ValueError("No file was chosen for the output tier: give its name in ELAN.")
    audio = file_of(media)
    if not audio.is_file():
        raise FileNotFoundError(f"There is no recording {audio}: link it again in ELAN.")
    tier = parameters.get(INPUT_TIER)
    spans = read_tier(file_of(tier)) if tier else []
    report.progress(0.02, "Opening the model")
    recognise = opened()
    report.progress(0.1, "Transcribing")
    found = recognise(audio, spans, lambda share: report.progress(0.1 + 0.85 * share))
    words = [word for segment in found for word in segment.words]
    for parameter, segments, of in (
        (OUTPUT_TIER, found, name),
        (OUTPUT_WORDS, words, f"{name}-words"),
    ):
        if parameter in parameters:
            target = file_of(parameters[parameter])
            with writing(target) as file:
                file.write(tier_text(segments, of, csv=target.suffix.lower() in (".csv", ".txt")))
    report.info(f"{len(found)} segments with {len(words)} words.")
    report.progress(1.0)


def main(
    argv: Sequence[str] | None = None,
    stdin: BinaryIO | None = None,
    stdout: TextIO | None = None,
) -> int:
    """0 done, 1 failed; the reason is a line before ``RESULT: FAILED.``."""
    utf8_streams()
    parser = argparse.ArgumentParser(prog="speechssl.elan.recognizer", description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--name", default="speechssl", help="of the tiers")
    args = parser.parse_args(argv)
    report = Reporter(stdout or sys.stdout)
    try:
        data = (stdin or sys.stdin.buffer).read()
        run(data, report, args.name, lambda: recogniser(args.model))
    except Exception as error:
        report.info(f"ERROR: {sentence_of(error)}")
        report.end(done=False)
        return 1
    report.end(done=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
