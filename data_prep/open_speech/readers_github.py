"""Readers of sources that are GitHub repositories, cloned into OWNER+NAME."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from data_prep.open_speech.clip import Clip
from data_prep.open_speech.files import pairs, relative, sounds, subfolder
from data_prep.open_speech.languages import ISO_639_3
from data_prep.wolof import recordings as wolof_recordings


def gcompris(repo: Path) -> Iterator[Clip]:
    """`LANG/SECTION/NAME.ogg`. A voice speaks a section or all of a language; which is only partly
    written down, so a language is one speaker and its sections are its sessions. The names are
    English words, so only English words, colours and countries have a transcript."""
    for path in sounds(repo):
        code, *sections = path.relative_to(repo).parts[:-1]
        if code not in ISO_639_3 or not sections:
            continue
        spoken = code == "en" and sections[0] in ("words", "colors", "geography")
        text = path.stem.replace("_", " ") if spoken else None
        language = ISO_639_3[code]
        name = relative(path, repo)
        yield Clip(name, path, language, code, "/".join(sections), text)


_DSP_WORDS = (
    "数字", "语音", "语言", "识别", "中国", "总工", "北京", "背景", "上海", "商行", "复旦", "饭店",
    "speech", "speaker", "signal", "process", "print", "open", "close", "project",
)  # fmt: skip
"""By the label in the file's name: the table in its README.md."""


def dsp_speech(repo: Path) -> Iterator[Clip]:
    """`speech_data/SPEAKER/SPEAKER-LABEL-INDEX.wav`, 12 Mandarin words and 8 English ones."""
    for path in sounds(subfolder(repo, "speech_data")):
        speaker, label, _ = path.stem.split("-")
        word = _DSP_WORDS[int(label)]
        language = "eng" if word.isascii() else "cmn"
        yield Clip(relative(path, repo), path, language, speaker, language, word)


def fleurs_du_mal(repo: Path) -> Iterator[Clip]:
    """Poems by Baudelaire read by volunteers of LibriVox, whom the files do not name. The texts of
    the poems are there, but each recording begins and ends with announcements: as nothing says
    where, they are not used."""
    for path in sounds(subfolder(repo, "audio")):
        yield Clip(relative(path, repo), path, "fra")


def audio_cmn(repo: Path) -> Iterator[Clip]:
    """Words `96k/hsk/cmn-HANZI.mp3` and syllables `64k/syllabs/cmn-PINYIN.mp3`, each of one voice,
    in the best of the qualities that are there."""
    for place, speaker in (("96k/hsk", "yue-tan"), ("64k/syllabs", "chen-wang")):
        for path in sounds(subfolder(repo, place)):
            text = path.stem.removeprefix("cmn-").replace("_", " ").strip()
            yield Clip(relative(path, repo), path, "cmn", speaker, text=text)


def pinyin_sound(repo: Path) -> Iterator[Clip]:
    """Mandarin syllables `mp3/PINYIN.mp3` of one voice."""
    for path in sounds(subfolder(repo, "mp3")):
        yield Clip(relative(path, repo), path, "cmn", "voice", text=path.stem)


_ARABIC = {
    "zero": ("صفر", "sˤifr"), "one": ("واحد", "waːħid"), "two": ("اثنان", "iθnaːn"),
    "three": ("ثلاثة", "θalaːθa"), "four": ("أربعة", "ʔarbaʕa"), "five": ("خمسة", "xamsa"),
    "six": ("ستة", "sitta"), "seven": ("سبعة", "sabʕa"), "eight": ("ثمانية", "θamaːnija"),
    "nine": ("تسعة", "tisʕa"), "right": ("يمين", "jamiːn"), "left": ("يسار", "jasaːr"),
    "up": ("أعلى", "ʔaʕlaː"), "down": ("أسفل", "ʔasfal"), "forward": ("أمام", "ʔamaːm"),
    "backward": ("خلف", "xalf"), "yes": ("نعم", "naʕam"), "no": ("لا", "laː"),
    "start": ("ابدأ", "ibdaʔ"), "stop": ("توقف", "tawaqqaf"), "enable": ("تفعيل", "tafʕiːl"),
    "disable": ("تعطيل", "taʕtˤiːl"), "ok": ("موافق", "muwaːfiq"), "cancel": ("إلغاء", "ʔilɣaːʔ"),
    "open": ("فتح", "fatħ"), "close": ("إغلاق", "ʔiɣlaːq"), "zoom in": ("تكبير", "takbiːr"),
    "zoom out": ("تصغير", "tasɣiːr"), "previous": ("السابق", "assaːbiq"),
    "next": ("التالي", "attaːliː"), "send": ("إرسال", "ʔirsaːl"),
    "receive": ("استقبال", "istiqbaːl"), "move": ("تحريك", "taħriːk"),
    "rotate": ("تدوير", "tadwiːr"), "record": ("تسجيل", "tasʒiːl"), "enter": ("إدخال", "ʔidxaːl"),
    "digit": ("رقم", "raqm"), "direction": ("اتجاه", "ittiʒaːh"),
    "options": ("خيارات", "xijaːraːt"), "undo": ("تراجع", "taraːʒuʕ"),
}  # fmt: skip
"""Folder -> keyword and pronunciation: the table images/keywords.jpg of the repository."""


def arabic_commands(repo: Path) -> Iterator[Clip]:
    """`dataset/KEYWORD/SPEAKER_NO_ROUND.wav`, 40 words of 30 speakers."""
    for path in sounds(subfolder(repo, "dataset")):
        text, phones = _ARABIC[path.parent.name]
        speaker = path.stem.partition("_")[0]
        yield Clip(relative(path, repo), path, "ara", speaker, text=text, phones=phones)


def elicited(repo: Path, *, language: str) -> Iterator[Clip]:
    """What Lig-Aikuma recorded of one reader: `data/records/*/ID.wav` and ``ID:text`` lines."""
    texts = dict(pairs(repo / "data" / "raw_text_file.txt", ":"))
    for path in sounds(subfolder(repo, "data/records")):
        yield Clip(relative(path, repo), path, language, "reader", text=texts.get(path.stem))


def wake_words(repo: Path) -> Iterator[Clip]:
    """`audio/KEYWORD/NAME`, speakers not named."""
    for path in sounds(subfolder(repo, "audio")):
        if path.parent.name != "audio":  # multiple_keywords.wav is a mix of all
            yield Clip(relative(path, repo), path, "eng", text=path.parent.name)


def intents(repo: Path) -> Iterator[Clip]:
    """`data/speech/clean/NAME.wav`: orders of coffee. Speakers are not named, and the labels are
    intents, not words."""
    for path in sounds(subfolder(repo, "data/speech/clean")):
        yield Clip(relative(path, repo), path, "eng")


def kerstin(repo: Path) -> Iterator[Clip]:
    """`verified/ID.flac` and ``ID|text`` lines: sentences by one reader."""
    texts = dict(pairs(repo / "metadata.csv", "|"))
    for path in sounds(subfolder(repo, "verified")):
        yield Clip(relative(path, repo), path, "deu", "kerstin", text=texts.get(path.stem))


def cherokee(repo: Path) -> Iterator[Clip]:
    """The set `durbin-feeling-tones`, the only one of the repository that is free:
    ``voice|file|text`` lines for Cherokee, and for the English of those who ask."""
    root = subfolder(repo, "durbin-feeling-tones")
    for table, language in (("data-chr.txt", "chr"), ("data-en.txt", "eng")):
        for line in (root / table).read_text(encoding="utf-8").splitlines():
            voice, _, rest = line.partition("|")
            place, _, text = rest.partition("|")
            path = root / place
            speaker = voice if language == "chr" else None
            yield Clip(relative(path, repo), path, language, speaker, text=text.strip() or None)


def wyandot(repo: Path) -> Iterator[Clip]:
    """`SET/mp3/NAME.mp3`, a voice a set, not transcribed. The recordings before they were cut
    (`src`) are left out."""
    for speaker in ("craig", "wax"):
        for path in sounds(subfolder(repo, f"{speaker}/mp3")):
            yield Clip(relative(path, repo), path, "wya", speaker)


_WAKE_TEXTS = {"heychatterbox": "hey chatterbox", "heycomputer": "hey computer"}


def precise(repo: Path) -> Iterator[Clip]:
    """`WORD/LANG/NAME.wav` and `not-wake-words/LANG`, speakers not named. Only recordings that one
    of `licenses/` names are in the public domain, and only those are taken."""
    licences = sorted(subfolder(repo, "licenses").glob("license-2*.txt"))
    named = "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in licences)
    released = set(re.findall(r"[\w-]+\.wav", named))
    for word in ("amelia", "athena", "computer", "heychatterbox", "heycomputer", "not-wake-words"):
        for code in ("en", "en-us", "es"):
            folder = repo / word / code
            texts = _precise_texts(folder / "metadata.csv")
            for path in sounds(folder) if folder.is_dir() else ():
                text = texts.get(path.name)
                if word != "not-wake-words":
                    text = _WAKE_TEXTS.get(word, word)
                if path.name in released:
                    language = ISO_639_3[code.partition("-")[0]]
                    yield Clip(relative(path, repo), path, language, text=text)


def _precise_texts(table: Path) -> dict[str, str]:
    if not table.is_file():
        return {}
    with table.open(encoding="utf-8", newline="") as file:
        return {row[0]: row[1].strip() for row in csv.reader(file) if len(row) > 1}


def voice_dataset(repo: Path) -> Iterator[Clip]:
    """``wav/NAME.wav|text`` lines of one reader of a Spanish book."""
    for place, text in pairs(repo / "record_log.txt", "|"):
        path = repo / place
        yield Clip(relative(path, repo), path, "spa", "reader", text=text)


def pao(repo: Path) -> Iterator[Clip]:
    """`audio/*/NAME.wav`, and `metadata.csv` (filename, transcript, speaker_id, ...) for a part."""
    with (repo / "metadata.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = {row["filename"]: row for row in csv.DictReader(file)}
    for path in sounds(subfolder(repo, "audio")):
        row = rows.get(path.name)
        text = row["transcript"].strip() if row else ""
        speaker = row["speaker_id"] if row else None
        yield Clip(relative(path, repo), path, "blk", speaker, text=text or None)


_LICENCE = re.compile(r"^\* License: \[?(CC[^\]\n]*)\]?", re.MULTILINE)


def storybook(audio: Path, texts: Path) -> Iterator[Clip]:
    """`LANG/NUMBER_TITLE/mp3/PAGE.mp3` and the stories' texts, `LANG/NUMBER_TITLE.md` in the second
    repository, whose pages are separated by ``##``. Only stories that are CC-BY in every language
    that is there; the transcripts only where a story has as many pages as recordings."""
    stories: dict[str, dict[str, str]] = {}
    for path in sorted(texts.glob("*/[0-9]*_*.md")):
        text = path.read_text(encoding="utf-8")
        stories.setdefault(path.name.partition("_")[0], {})[path.parent.name] = text
    for folder in sorted(audio.glob("*/[0-9]*_*/mp3"), key=lambda path: path.as_posix()):
        code, title = folder.parts[-3:-1]
        number = title.partition("_")[0]
        found = stories.get(number, {})
        licences = {match for text in found.values() for match in _LICENCE.findall(text)}
        if licences != {"CC-BY"} or code not in ISO_639_3:
            continue
        tracks = sounds(folder)
        pages = _pages(found.get(code, ""))
        if len(pages) != len(tracks):
            pages = [""] * len(tracks)
        for path, page in zip(tracks, pages, strict=True):
            name = relative(path, audio)
            yield Clip(name, path, ISO_639_3[code], f"{code}-{number}", text=page or None)


def _pages(story: str) -> list[str]:
    """The title and each page, without the last part, which names authors and licence."""
    parts = re.split(r"^##\s*$", story, flags=re.MULTILINE)[:-1]
    return [" ".join(part.lstrip("# \n").split()) for part in parts]


def wolof(folder: Path) -> Iterator[Clip]:
    """The train part of Wolof ALFFA only: its dev and test are what models are judged by."""
    for record in wolof_recordings(folder):
        if record.split == "train":
            yield Clip(record.id, record.audio, "wol", record.speaker, text=record.text)
