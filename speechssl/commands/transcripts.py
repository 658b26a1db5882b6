"""Transcripts written as they come, each in its place; what went wrong with which recording."""

import errno
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from speechssl.commands.exits import EXIT_FAILED, exit_code_of, tell
from speechssl.commands.options import is_renamed
from speechssl.commands.subtitles import SUBTITLES

if TYPE_CHECKING:
    from speechssl.inference.batching import Unreadable
    from speechssl.inference.done import DoneRecord
    from speechssl.inference.eaf_files import EafFiles
    from speechssl.inference.recordings import Clip
    from speechssl.inference.subtitles import SubtitleConfig
    from speechssl.inference.transcript import Transcript

_OF_ONE_NAME = (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.EINVAL)
"""Errors of writing that another recording need not have."""


@dataclass(frozen=True)
class Job:
    """A recording and where its transcript goes."""

    clip: "Clip"
    target: Path | None
    """None: to standard output."""
    name: str = ""
    """Of the target without its ending: the recording's, or what tells it from another."""
    work: str = ""
    """What :class:`speechssl.inference.done.DoneRecord` calls it."""

    @property
    def name_in_folder(self) -> str:
        """`name` without the folders before it."""
        return self.name.rsplit("/", 1)[-1]


class Written:
    """Writes each result, and counts."""

    def __init__(
        self,
        form: str,
        subtitles: "SubtitleConfig",
        say: Callable[[str], None],
        record: "DoneRecord | None",
        *,
        many: bool,
        eafs: "EafFiles | None" = None,
        language: str = "und",
    ) -> None:
        """`form` of the output; `say` gets sentences; `many` recordings were given; `eafs` makes
        files of ELAN, and `language` is that of texts for FLEx."""
        self._eafs, self._language = eafs, language
        self._form, self._subtitles, self._say = form, subtitles, say
        self._record, self._many = record, many
        self._unreadable = self._unwritten = 0
        self._narrow: list[str] = []
        self._num_cues = self._num_rushed = 0
        self._first_rushed = ""
        self._has_header = False

    def add(self, job: Job, result: "Transcript | Unreadable") -> None:
        """Write one result; OSError where nothing can be written any more (a full disk)."""
        from speechssl.inference.batching import Unreadable

        if isinstance(result, Unreadable):
            self._unreadable += 1
            self._say(str(result))
            return
        if result.narrow_band:
            self._narrow.append(result.audio)
        for note in result.notes:
            self._say(note)
        if job.clip.channel is not None:
            speaker = f"channel {job.clip.channel + 1}"
            audio = result.audio if self._form == "json" else f"{result.audio} ({speaker})"
            result = replace(result, speaker=speaker, audio=audio)
        try:
            made = self._made(result, job)
        except ValueError as error:  # several files of ELAN are of it
            self._unwritten += 1
            self._say(str(error))
            return
        if job.target is None:
            self._print(result.audio, made if isinstance(made, str) else made.decode())
        else:
            self._write(job, job.target, made)

    def end(self, total: int) -> int:
        """What is to be said of all of them; the exit code, of `total` recordings."""
        if self._num_rushed:
            tell(
                f"{self._num_rushed:,} of {self._num_cues:,} subtitles (the first: "
                f"{self._first_rushed}) are shown for less time than they need, as the speech "
                "leaves no more."
            )
        if self._narrow:
            tell(
                f"{len(self._narrow)} of {total} recordings (the first: {self._narrow[0]}) carry "
                "nothing above 4 kHz, as over a telephone; a model that learned from wider "
                "recordings makes more errors on them."
            )
        code = exit_code_of(self._unreadable, total)
        if self._unwritten:
            tell(f"{self._unwritten} of {total} transcripts could not be written.")
            code = max(code, EXIT_FAILED)
        return code

    def _made(self, result: "Transcript", job: Job) -> str | bytes:
        """The content of the file."""
        if self._eafs is not None:
            audio = job.clip.name  # without the channel
            folder = job.target.parent if job.target else None
            made, note = self._eafs.make(replace(result, audio=audio), folder)
            if note:
                self._say(note)
            return made
        if self._form == "flextext":
            from speechssl.inference.writers import to_flextext

            return to_flextext(result, self._language)
        return self._text(result)

    def _text(self, result: "Transcript") -> str:
        from speechssl.inference.subtitles import to_cues
        from speechssl.inference.writers import CUE_WRITERS, WRITERS

        if self._form not in SUBTITLES:
            return WRITERS[self._form](result)
        cues = to_cues(result, self._subtitles)
        rushed = [cue for cue in cues if cue.is_rushed]
        self._num_cues += len(cues)
        if rushed and not self._num_rushed:
            self._first_rushed = f"{result.audio} at {rushed[0].start_ms / 1000:.1f} s"
        self._num_rushed += len(rushed)
        return CUE_WRITERS[self._form](cues)

    def _write(self, job: Job, target: Path, made: str | bytes) -> None:
        from speechssl.files import replacing, writing

        try:
            if isinstance(made, bytes):
                with replacing(target) as part:
                    part.write_bytes(made)
            else:
                with writing(target) as file:
                    file.write(made)
        except OSError as error:
            if error.errno not in _OF_ONE_NAME:
                raise
            self._unwritten += 1
            self._say(f"The transcript of {job.clip.name} cannot be written: {error}.")
            return
        if self._record is not None:
            self._record.add(target, job.work or self._record.work_of(job.clip))
        if is_renamed(job.name, job.clip.name):
            print(f"{target}: {job.clip.name}")

    def _print(self, audio: str, text: str) -> None:
        if self._form == "txt" and self._many:
            text = f"{audio}\t{text}"
        if self._form == "tsv":
            text = text.split("\n", 1)[1] if self._has_header else text
            self._has_header = True
        sys.stdout.write(text)
        sys.stdout.flush()
