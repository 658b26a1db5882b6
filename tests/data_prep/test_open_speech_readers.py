"""Each reader on a tiny tree that is laid out as its source is."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep.open_speech.clip import TERMS, Clip, folder_of
from data_prep.open_speech.files import pairs, sounds
from data_prep.open_speech.languages import ISO_639_3, VOICES
from data_prep.open_speech.queen import members
from data_prep.open_speech.sources import LEFT_OUT, NEVER, SOURCES

BY_NAME = {source.name: source for source in SOURCES}
Tree = dict[str, str]
"""Path -> content; a recording where its suffix says so."""


def plant(root: Path, tree: Tree) -> Path:
    for place, content in tree.items():
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return root


def facts(clips: list[Clip]) -> list[tuple[str, str, str | None, str | None]]:
    return [(clip.name, clip.language, clip.speaker, clip.text) for clip in clips]


STAMPS = "usr/share/tuxpaint/stamps/animals"
KLETTRES = "usr/share/klettres"
SOUNDS = "usr/share/asterisk/sounds"
DURBIN = "durbin-feeling-tones"

# fmt: off
CASES: dict[str, tuple[Tree, list[tuple[str, str, str | None, str | None]]]] = {
    "gcompris": (
        {"en/words/air_horn.ogg": "", "en/alphabet/U0061.ogg": "", "de/words/acorn.ogg": "",
         "nl/words/acorn.ogg": "", "de/words/README": "Martin / GPL", "nn": "nb"},
        [("de/words/acorn", "deu", "de", None), ("en/alphabet/U0061", "eng", "en", None),
         ("en/words/air_horn", "eng", "en", "air horn")],
    ),
    "tuxpaint": (
        {f"{STAMPS}/cat.txt": "A cat.\nfr.utf8=Un chat.\nnl.utf8=Een kat.\n",
         f"{STAMPS}/cat_desc.ogg": "", f"{STAMPS}/cat_desc_fr.ogg": "",
         f"{STAMPS}/cat_desc_ru.ogg": "", f"{STAMPS}/cat_desc_nl.ogg": "",
         f"{STAMPS}/cat.ogg": "miaow"},
        [(f"{STAMPS}/cat_desc", "eng", "tuxpaint-eng", "A cat."),
         (f"{STAMPS}/cat_desc_fr", "fra", "tuxpaint-fra", "Un chat."),
         (f"{STAMPS}/cat_desc_ru", "rus", "tuxpaint-rus", None)],
    ),
    "klettres": (
        {f"{KLETTRES}/pt_BR/alpha/a.ogg": "", f"{KLETTRES}/nl/alpha/a.ogg": "",
         f"{KLETTRES}/pics/a.png": ""},
        [(f"{KLETTRES}/pt_BR/alpha/a", "por", "por", None)],
    ),
    "ktuberling": (
        {"usr/share/ktuberling/sounds/sr@latin/oko.ogg": "",
         "usr/share/ktuberling/sounds/nl/oog.wav": ""},
        [("usr/share/ktuberling/sounds/sr@latin/oko", "srp", "srp", None)],
    ),
    "asterisk-ru": (
        {f"{SOUNDS}/ru_RU/hello.g722": "", f"{SOUNDS}/ru_RU/silence/1.g722": ""},
        [(f"{SOUNDS}/ru_RU/hello", "rus", "voice", None)],
    ),
    "asterisk-es-co": (
        {f"{SOUNDS}/es/hola.gsm": ""}, [(f"{SOUNDS}/es/hola", "spa", "voice", None)],
    ),
    "gcin": (
        {"usr/share/gcin-voice/ogg/ㄊㄢ3/3.ogg": "", "usr/share/gcin-voice/ogg/ㄊㄢ3/5.ogg": ""},
        [("usr/share/gcin-voice/ogg/ㄊㄢ3/3", "cmn", "voice-3", None),
         ("usr/share/gcin-voice/ogg/ㄊㄢ3/5", "cmn", "voice-5", None)],
    ),
    "dsp-speech": (
        {"speech_data/163/163-04-01.wav": "", "speech_data/163/163-12-02.wav": ""},
        [("speech_data/163/163-04-01", "cmn", "163", "中国"),
         ("speech_data/163/163-12-02", "eng", "163", "speech")],
    ),
    "fleurs-du-mal": (
        {"audio/fleursdumal_010.mp3": "", "10.txt": "L'ENNEMI"},
        [("audio/fleursdumal_010", "fra", None, None)],
    ),
    "audio-cmn": (
        {"96k/hsk/cmn-一_也_.mp3": "", "24k-abr/hsk/cmn-一.mp3": "",
         "64k/syllabs/cmn-zi4.mp3": ""},
        [("96k/hsk/cmn-一_也_", "cmn", "yue-tan", "一 也"),
         ("64k/syllabs/cmn-zi4", "cmn", "chen-wang", "zi4")],
    ),
    "pinyin-sound": ({"mp3/zhuo2.mp3": ""}, [("mp3/zhuo2", "cmn", "voice", "zhuo2")]),
    "arabic-commands": (
        {"dataset/zoom in/00000021_NO_06.wav": "", "background_noise/boiler.wav": ""},
        [("dataset/zoom in/00000021_NO_06", "ara", "00000021", "تكبير")],
    ),
    "yoruba": (
        {"data/records/extra/a_0.wav": "", "data/records/train/a_1.wav": "",
         "data/raw_text_file.txt": "a_0:ṣùgbọn: ní\na_2:x\n", "recordings/a/a_0.wav": ""},
        [("data/records/extra/a_0", "yor", "reader", "ṣùgbọn: ní"),
         ("data/records/train/a_1", "yor", "reader", None)],
    ),
    "wake-words": (
        {"audio/view glass/1.wav": "", "audio/alexa/4.flac": "", "audio/multiple_keywords.wav": ""},
        [("audio/alexa/4", "eng", None, "alexa"),
         ("audio/view glass/1", "eng", None, "view glass")],
    ),
    "intents": (
        {"data/speech/clean/a.wav": "", "data/noise/kitchen.wav": ""},
        [("data/speech/clean/a", "eng", None, None)],
    ),
    "kerstin": (
        {"verified/de-1.flac": "", "audio/de-1.webm": "", "metadata.csv": "de-1|Guten Tag.\n"},
        [("verified/de-1", "deu", "kerstin", "Guten Tag.")],
    ),
    "cherokee": (
        {f"{DURBIN}/data-chr.txt": "02|mp3/1.mp3|Achű:ja\n",
         f"{DURBIN}/data-en.txt": "02|mp3/2.mp3|boy\n",
         "see-say-write/data-chr.txt": "01|mp3/1.mp3|Sū\n"},
        [(f"{DURBIN}/mp3/1", "chr", "02", "Achű:ja"), (f"{DURBIN}/mp3/2", "eng", None, "boy")],
    ),
    "wyandot": (
        {"craig/mp3/1.mp3": "", "craig/src/1.mp3": "", "wax/mp3/2.mp3": ""},
        [("craig/mp3/1", "wya", "craig", None), ("wax/mp3/2", "wya", "wax", None)],
    ),
    "precise": (
        {"licenses/license-20190801-x.txt": "Files:\nheycomputer/en/h-1.wav\nn-1.wav\n",
         "heycomputer/en/h-1.wav": "", "heycomputer/en/h-2.wav": "",
         "not-wake-words/es/n-1.wav": "", "not-wake-words/es/metadata.csv": "n-1.wav,el sol,es\n",
         "heysavant/wake-word/en/s.wav": ""},
        [("heycomputer/en/h-1", "eng", None, "hey computer"),
         ("not-wake-words/es/n-1", "spa", None, "el sol")],
    ),
    "voice-dataset": (
        {"wav/a.wav": "", "record_log.txt": "wav/a.wav|Obvio fuera\n"},
        [("wav/a", "spa", "reader", "Obvio fuera")],
    ),
    "pao": (
        {"audio/news/p2.wav": "", "audio/conversational/p1.wav": "",
         "metadata.csv": "filename,transcript,speaker_id\np1.wav,ခွဲး,S01\n"},
        [("audio/conversational/p1", "blk", "S01", "ခွဲး"), ("audio/news/p2", "blk", None, None)],
    ),
    "wolof": (
        {"splits.tsv": "id\tpath\tspeaker\tsplit\ttext\nw1\tw1.wav\t01\ttrain\tsunu\n"
                       "w2\tw2.wav\t02\ttest\tdafa\n", "w1.wav": "", "w2.wav": ""},
        [("w1", "wol", "01", "sunu")],
    ),
}
# fmt: on


@pytest.mark.parametrize("name", CASES)
def test_reader(name: str, tmp_path: Path) -> None:
    tree, expected = CASES[name]
    clips = list(BY_NAME[name].read(plant(tmp_path, tree)))
    assert facts(clips) == expected
    assert all(clip.audio.is_relative_to(tmp_path) for clip in clips)


def test_each_source_has_a_case() -> None:
    same = {"asterisk-en", "asterisk-es", "asterisk-fr", "asterisk-it", "menardi", "armelle"}
    assert set(BY_NAME) == {*CASES, *same, "swahili", "amazon-queen", "storybook", "fillets"}


def test_arabic_words_have_the_phones_of_their_table(tmp_path: Path) -> None:
    tree = CASES["arabic-commands"][0]
    (clip,) = BY_NAME["arabic-commands"].read(plant(tmp_path, tree))
    assert clip.phones == "takbiːr"


def test_fillets(tmp_path: Path) -> None:
    place = "usr/share/games/fillets-ng"
    lines = (
        'dialogId("m1", "font_big", "What is \\"it\\"?")\ndialogStr("Co je \\"to\\"?")\n\n'
        'dialogId("r1", "font_robot", "Nothing.")\ndialogStr("Nic.")\n'
        'dialogId("gone", "font_small", "Gone.")\ndialogStr("Pryč.")\n'
    )
    scripts = plant(tmp_path / "s", {f"{place}/script/city/dialogs_cs.lua": lines})
    names = ("city/cs/m1.ogg", "city/cs/r1.ogg", "city/cs/noise.ogg", "city/en/m1.ogg")
    voices = plant(tmp_path / "v", {f"{place}/sound/{name}": "" for name in names})
    clips = list(BY_NAME["fillets"].read(voices, scripts))
    assert facts(clips) == [
        ("city/m1", "ces", "font_big", 'Co je "to"?'),
        ("city/r1", "ces", None, "Nic."),
    ]


STORY = "# Rain\n\n##\nI love\nwater.\n\n##\n* License: [{}]\n* Text: L\n"


@pytest.mark.parametrize(
    ("licences", "tracks", "expected"),
    [
        ({"en": "CC-BY"}, 2, ["Rain", "I love water."]),
        ({"en": "CC-BY"}, 3, [None, None, None]),  # pages and recordings do not match
        ({"en": "CC-BY-NC"}, 2, []),
        ({"en": "CC-BY", "fr": "CC-BY-NC"}, 2, []),  # one of them is not free
        ({"fr": "CC-BY"}, 2, [None, None]),  # free, but the English text is not there
        ({}, 2, []),  # nothing says that it is free
    ],
)
def test_storybook(
    licences: dict[str, str], tracks: int, expected: list[str | None], tmp_path: Path
) -> None:
    texts = {f"{code}/0331_x.md": STORY.format(terms) for code, terms in licences.items()}
    plant(tmp_path / "texts", {"README.md": "", **texts})
    names = {f"en/0331_rain/mp3/{i:02d}.mp3": "" for i in range(1, tracks + 1)}
    plant(tmp_path / "audio", {**names, "en/0331_rain/0331_rain.mp3": ""})
    clips = list(BY_NAME["storybook"].read(tmp_path / "audio", tmp_path / "texts"))
    assert [clip.text for clip in clips] == expected
    assert {clip.speaker for clip in clips} <= {"en-0331"}


def archive(path: Path, names: list[str], *, magic: bytes = b"QTBL", coding: int = 1) -> Path:
    head = struct.pack(">4s6s2xBH", magic, b"CEM10", coding, len(names))
    offset = len(head) + 21 * len(names)
    table = b"".join(
        struct.pack(">12sBII", name.encode(), 1, offset + 4 * i, 4) for i, name in enumerate(names)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + table + b"".join(name[:4].encode() for name in names))
    return path


def test_amazon_queen(tmp_path: Path) -> None:
    names = ["020006J1.SB", "57001FP2.SB", "JO000001.SB", "C111_001.SB", "ZOMBIE.ACT"]
    path = archive(tmp_path / "usr/share/scummvm/flight-of-the-amazon-queen/queen.1c", names)
    clips = list(BY_NAME["amazon-queen"].read(tmp_path))
    assert [clip.speaker for clip in clips] == ["joe", "dialogue-57", "joe", None]
    content = path.read_bytes()
    spans = [clip.span for clip in clips if clip.span]
    assert [content[a : a + n] for a, n in spans] == [b"0200", b"5700", b"JO00", b"C111"]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: archive(path, [], magic=b"RIFF"), "is not an archive"),
        (lambda path: archive(path, [], coding=9), "coding 9"),
        (lambda path: path.write_bytes(b""), "is not an archive"),
        (lambda path: path.write_bytes(archive(path, ["A.SB"]).read_bytes()[:20]), "its table"),
        (lambda path: path.write_bytes(archive(path, ["A.SB"]).read_bytes()[:-1]), "member A.SB"),
    ],
)
def test_a_damaged_archive_is_a_sentence(
    damage: Callable[[Path], object], says: str, tmp_path: Path
) -> None:
    path = tmp_path / "queen.1c"
    damage(path)
    with pytest.raises(ValueError, match=says):
        list(members(path))


@pytest.mark.parametrize("name", ["kerstin", "gcin", "amazon-queen", "klettres", "dsp-speech"])
def test_another_layout_is_a_sentence(name: str, tmp_path: Path) -> None:
    plant(tmp_path, {"metadata.csv": ""})
    with pytest.raises(FileNotFoundError, match="hold"):
        list(BY_NAME[name].read(tmp_path))


# ---- the table ----------------------------------------------------------------------------------


def test_what_a_seed_is_judged_by_is_in_no_source() -> None:
    for source in SOURCES:
        told = " ".join((source.name, *source.parts, *source.folders)).lower()
        assert not any(name in told for name in NEVER)
    assert {"mboshi", "fsdd"} <= set(NEVER)


def test_every_source_states_its_licence_and_where_it_stands() -> None:
    assert len(BY_NAME) == len(SOURCES)
    for source in SOURCES:
        assert source.licence
        assert source.licence_file
        assert source.terms in TERMS
        assert all(len(code) == 3 for code in source.languages)
        assert "NC" not in source.licence.replace("CC-BY-NC are left out", "")
    assert any("NC" in why for why in LEFT_OUT.values())


def test_the_page_has_every_source_with_its_licence() -> None:
    page = (Path(__file__).parents[2] / "docs" / "seed.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ")]
    asks = {"free": "nothing", "notice": "names", "alike": "the same terms"}
    found = {row[0].removeprefix("| "): row[1:5] for row in rows if len(row) > 5}
    for source in SOURCES:
        places = ", ".join(part.partition(":")[2] for part in source.parts)
        place, _, licence, terms = found[source.name]
        assert (place, licence, terms) == (places, source.licence, asks[source.terms])
    for what, why in LEFT_OUT.items():
        assert f"| {what} | {why} |" in page


def test_copyleft_is_named_as_such() -> None:
    for source in SOURCES:
        alike = any(word in source.licence for word in ("GPL", "SA", "same terms"))
        assert (source.terms == "alike") == alike, source.name


def test_no_dutch() -> None:
    assert "nl" not in ISO_639_3
    assert all("nld" not in source.languages for source in SOURCES)


def test_voices_are_of_languages_that_are_there() -> None:
    assert set(VOICES) <= {code for source in SOURCES for code in source.languages}


@pytest.mark.parametrize(
    ("part", "folder"),
    [("github:A/B-c", "A+B-c"), ("debian:x-data", "x-data"), ("folder:wolof", "wolof")],
)
def test_folders(part: str, folder: str) -> None:
    assert folder_of(part) == folder


@pytest.mark.parametrize("part", ["A/B", "gitlab:A/B", "debian:"])
def test_a_part_of_another_kind_is_refused(part: str) -> None:
    with pytest.raises(ValueError, match="github:OWNER/NAME"):
        folder_of(part)


def test_pairs(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("\ufeffa|b|c\nno separator\n|x\nd|\n e | f \n", encoding="utf-8")
    assert list(pairs(path, "|")) == [("a", "b|c"), ("e", "f")]


def test_every_recording_that_soundfile_writes_is_found(tmp_path: Path) -> None:
    for suffix in ("wav", "flac", "ogg", "mp3"):
        soundfile.write(tmp_path / f"a.{suffix}", np.zeros(1600), 16000)
    (tmp_path / "a.txt").write_text("")
    assert [path.suffix for path in sounds(tmp_path)] == [".flac", ".mp3", ".ogg", ".wav"]
