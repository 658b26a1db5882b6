"""Readers of sources that are Debian packages, unpacked with `dpkg-deb -x PACKAGE.deb FOLDER`."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from data_prep.open_speech.clip import Clip
from data_prep.open_speech.files import relative, sounds, subfolder
from data_prep.open_speech.languages import ISO_639_3
from data_prep.open_speech.queen import members

_DESCRIPTION = re.compile(r"(?P<stem>.+)_desc(?:_(?P<code>[A-Za-z_]+))?$")


def tuxpaint(package: Path) -> Iterator[Clip]:
    """Descriptions of pictures: `NAME_desc_LANG.ogg`, English without LANG. `NAME.txt` has the
    English text in its first line and ``LANG.utf8=TEXT`` below. One voice a language."""
    texts: dict[Path, dict[str, str]] = {}
    for path in sounds(subfolder(package, "usr/share/tuxpaint/stamps")):
        found = _DESCRIPTION.fullmatch(path.stem)
        code = (found["code"] or "en") if found else ""
        if found is None or code not in ISO_639_3:
            continue
        table = path.with_name(found["stem"] + ".txt")
        if table not in texts:
            texts[table] = _stamp_texts(table)
        language = ISO_639_3[code]
        text = texts[table].get(code)
        yield Clip(relative(path, package), path, language, f"tuxpaint-{language}", "", text)


def _stamp_texts(table: Path) -> dict[str, str]:
    if not table.is_file():
        return {}
    first, *others = table.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
    texts = {"en": first.strip()}
    for line in others:
        code, separator, text = line.partition(".utf8=")
        if separator:
            texts[code] = text.strip()
    return {code: text for code, text in texts.items() if text}


def by_language(package: Path, *, folder: str) -> Iterator[Clip]:
    """`FOLDER/LANG/...`: letters, syllables and words, one voice a language, not transcribed."""
    root = subfolder(package, folder)
    for path in sounds(root):
        code = path.relative_to(root).parts[0]
        if code in ISO_639_3:
            language = ISO_639_3[code]
            yield Clip(relative(path, package), path, language, language)


klettres = partial(by_language, folder="usr/share/klettres")
ktuberling = partial(by_language, folder="usr/share/ktuberling/sounds")


def asterisk(package: Path, *, language: str) -> Iterator[Clip]:
    """Prompts of a telephone exchange: one voice a package, not transcribed. Files of silence are
    left out."""
    root = subfolder(package, "usr/share/asterisk/sounds")
    for path in sounds(root):
        if "silence" not in path.relative_to(root).parts:
            yield Clip(relative(path, package), path, language, "voice")


def gcin(package: Path) -> Iterator[Clip]:
    """Mandarin syllables: `SYLLABLE/3.ogg` and `5.ogg`, of two voices, the syllable in bopomofo and
    a digit for the tone. The transcripts are not used: uroman knows too few of these letters."""
    for path in sounds(subfolder(package, "usr/share/gcin-voice/ogg")):
        yield Clip(relative(path, package), path, "cmn", f"voice-{path.stem}")


def amazon_queen(package: Path) -> Iterator[Clip]:
    """Acted dialogue of a game, 11 kHz, not transcribed. A name such as 57001FJ3 is dialogue 57,
    line 1F, said by Joe (J) or by the person he speaks with (P); JO are Joe's remarks. Who speaks
    in the scenes without Joe is not known."""
    path = subfolder(package, "usr/share/scummvm/flight-of-the-amazon-queen") / "queen.1c"
    if not path.is_file():
        raise FileNotFoundError(f"{package} holds no {path.name}: is it the right package?")
    for member in members(path):
        if not member.name.endswith(".SB"):
            continue
        stem = member.name.removesuffix(".SB")
        dialogue = re.fullmatch(r"(\d\d)[0-9A-FSX]{4}([JP])\d", stem)
        speaker = None
        if stem.startswith("JO") or (dialogue and dialogue[2] == "J"):
            speaker = "joe"
        elif dialogue:
            speaker = f"dialogue-{dialogue[1]}"
        yield Clip(stem, path, "eng", speaker, span=(member.offset, member.size))


_DIALOGUE = re.compile(
    r'^dialogId\("([^"]+)", *"([^"]+)", *"(?:[^"\\]|\\.)*"\)\s*\ndialogStr\("((?:[^"\\]|\\.)*)"\)',
    re.MULTILINE,
)


def fillets(voices: Path, scripts: Path) -> Iterator[Clip]:
    """Czech dialogue of the game Fish Fillets: `sound/LEVEL/cs/ID.ogg` in one package, and
    ``dialogId("ID", "CHARACTER", ...) dialogStr("TEXT")`` in `script/LEVEL/dialogs_cs.lua` of the
    other. The two fishes have a voice each; other characters are subtitle colours, no known
    voice. Sounds without a dialogue are noises."""
    root = subfolder(scripts, "usr/share/games/fillets-ng/script")
    said: dict[tuple[str, str], tuple[str, str]] = {}
    for path in sorted(root.glob("*/dialogs_cs.lua")):
        for name, character, text in _DIALOGUE.findall(path.read_text(encoding="utf-8")):
            said[path.parent.name, name] = character, text.replace('\\"', '"')
    root = subfolder(voices, "usr/share/games/fillets-ng/sound")
    for path in sounds(root):
        level, *inner = path.relative_to(root).parts[:-1]
        if inner == ["cs"] and (level, path.stem) in said:
            character, text = said[level, path.stem]
            speaker = character if character in ("font_big", "font_small") else None
            yield Clip(f"{level}/{path.stem}", path, "ces", speaker, text=text or None)
