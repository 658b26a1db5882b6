"""The table of sources: where they come from, what their licences say, and who reads them."""

from functools import partial

from data_prep.open_speech import readers_debian as debian
from data_prep.open_speech import readers_github as github
from data_prep.open_speech.clip import Source
from data_prep.open_speech.languages import ISO_639_3

_MANY = tuple(sorted(set(ISO_639_3.values())))


def _copyright(package: str) -> str:
    return f"usr/share/doc/{package}/copyright"


def _asterisk(package: str, language: str, licence: str, name: str) -> Source:
    return Source(
        name,
        (f"debian:{package}",),
        (language,),
        licence,
        _copyright(package),
        "alike" if "SA" in licence or "GPL" in licence else "notice",
        partial(debian.asterisk, language=language),
        held_out=False,
    )


SOURCES: tuple[Source, ...] = (
    Source(
        "gcompris",
        ("github:gcompris/GCompris-voices",),
        _MANY,
        "GPL, a part GPL-3, CC-BY-SA 3.0, GFDL or public domain",
        "LICENSE, and README in each folder",
        "alike",
        github.gcompris,
    ),
    Source(
        "tuxpaint",
        ("debian:tuxpaint-stamps-default",),
        ("bel", "bul", "cat", "dan", "ell", "eng", "fra", "lit", "mal", "ron", "rus", "spa"),
        "GPL-2",
        _copyright("tuxpaint-stamps-default"),
        "alike",
        debian.tuxpaint,
    ),
    Source(
        "klettres",
        ("debian:klettres-data",),
        _MANY,
        "GPL-2+",
        _copyright("klettres-data"),
        "alike",
        debian.klettres,
    ),
    Source(
        "ktuberling",
        ("debian:ktuberling-data",),
        _MANY,
        "GPL-2+",
        _copyright("ktuberling-data"),
        "alike",
        debian.ktuberling,
    ),
    _asterisk("asterisk-core-sounds-en-g722", "eng", "CC-BY-SA 3.0", "asterisk-en"),
    _asterisk("asterisk-core-sounds-es-g722", "spa", "CC-BY-SA 3.0", "asterisk-es"),
    _asterisk("asterisk-core-sounds-fr-g722", "fra", "CC-BY-SA 3.0", "asterisk-fr"),
    _asterisk("asterisk-core-sounds-it-g722", "ita", "CC-BY 3.0", "asterisk-it"),
    _asterisk("asterisk-core-sounds-ru-g722", "rus", "CC-BY 3.0", "asterisk-ru"),
    _asterisk("asterisk-prompt-it-menardi-wav", "ita", "CC-BY-SA 3.0 Italy", "menardi"),
    _asterisk("asterisk-prompt-fr-armelle", "fra", "BSD with two clauses", "armelle"),
    _asterisk("asterisk-prompt-es-co", "spa", "GPL-2", "asterisk-es-co"),
    Source(
        "gcin",
        ("debian:gcin-voice",),
        ("cmn",),
        "GPL-3 or LGPL-3 (3.ogg), CC-BY 3.0 (5.ogg)",
        _copyright("gcin-voice"),
        "alike",
        debian.gcin,
        held_out=False,
    ),
    Source(
        "dsp-speech",
        ("github:zhongyuchen/DSPSpeech-20",),
        ("cmn", "eng"),
        "MIT",
        "LICENSE",
        "notice",
        github.dsp_speech,
        cap_h=2.0,
        notes="20 words",
    ),
    Source(
        "amazon-queen",
        ("debian:flight-of-the-amazon-queen",),
        ("eng",),
        "own: free to copy and to change, under the same terms, not to be sold by itself",
        _copyright("flight-of-the-amazon-queen"),
        "alike",
        debian.amazon_queen,
        cap_h=2.0,
        held_out=False,
        notes="11 kHz",
    ),
    Source(
        "fleurs-du-mal",
        ("github:heitorchang/fleursdumal_librivox",),
        ("fra",),
        "public domain (LibriVox)",
        "the tags of audio/*.mp3, which name archive.org/details/fleurs_du_mal_2001_librivox",
        "free",
        github.fleurs_du_mal,
        held_out=False,
    ),
    Source(
        "audio-cmn",
        ("github:hugolpz/audio-cmn",),
        ("cmn",),
        "CC-BY-SA",
        "README.md",
        "alike",
        github.audio_cmn,
        cap_h=2.0,
        held_out=False,
        notes="words",
    ),
    Source(
        "pinyin-sound",
        ("github:davinfifield/mp3-chinese-pinyin-sound",),
        ("cmn",),
        "Unlicense",
        "LICENSE",
        "free",
        github.pinyin_sound,
        held_out=False,
    ),
    Source(
        "arabic-commands",
        ("github:abdulkaderghandoura/arabic-speech-commands-dataset",),
        ("ara",),
        "CC-BY 4.0",
        "LICENSE",
        "notice",
        github.arabic_commands,
        cap_h=2.0,
        notes="40 words",
    ),
    Source(
        "yoruba",
        ("github:ogunlao/yoruba_speech_project",),
        ("yor",),
        "MIT",
        "LICENSE",
        "notice",
        partial(github.elicited, language="yor"),
        held_out=False,
    ),
    Source(
        "swahili",
        ("github:CateGitau/Swahili-Speech",),
        ("swh",),
        "MIT",
        "LICENSE",
        "notice",
        partial(github.elicited, language="swh"),
        held_out=False,
    ),
    Source(
        "wake-words",
        ("github:Picovoice/wake-word-benchmark",),
        ("eng",),
        "Apache-2.0",
        "LICENSE",
        "notice",
        github.wake_words,
        cap_h=0.75,
        held_out=False,
        notes="6 words",
    ),
    Source(
        "intents",
        ("github:Picovoice/speech-to-intent-benchmark",),
        ("eng",),
        "Apache-2.0",
        "LICENSE",
        "notice",
        github.intents,
        held_out=False,
    ),
    Source(
        "kerstin",
        ("github:rhasspy/dataset-voice-kerstin",),
        ("deu",),
        "CC0",
        "LICENSE",
        "free",
        github.kerstin,
        held_out=False,
    ),
    Source(
        "cherokee",
        ("github:CherokeeLanguage/cherokee-audio-data",),
        ("chr", "eng"),
        "CC0",
        "durbin-feeling-tones/AUDIO-LICENSE.md",
        "free",
        github.cherokee,
        held_out=False,
    ),
    Source(
        "wyandot",
        ("github:CherokeeLanguage/wyandot-audio-data",),
        ("wya",),
        "CC0",
        "LICENSE",
        "free",
        github.wyandot,
        held_out=False,
    ),
    Source(
        "precise",
        ("github:MycroftAI/Precise-Community-Data",),
        ("eng", "spa"),
        "public domain",
        "licenses/license-*.txt, each of which names recordings",
        "free",
        github.precise,
        held_out=False,
    ),
    Source(
        "voice-dataset",
        ("github:daniel-dona/voice-dataset",),
        ("spa",),
        "GPL-3",
        "LICENSE",
        "alike",
        github.voice_dataset,
        held_out=False,
    ),
    Source(
        "pao",
        ("github:KhunPhanDuae/pao-audio-dataset",),
        ("blk",),
        "CC0",
        "LICENSE",
        "free",
        github.pao,
        held_out=False,
    ),
    Source(
        "storybook",
        ("github:global-asp/asp-audio", "github:global-asp/asp-source"),
        ("eng", "fra", "lug", "myx"),
        "CC-BY (stories that are CC-BY-NC are left out)",
        "the last lines of each story in asp-source",
        "notice",
        github.storybook,
        held_out=False,
    ),
    Source(
        "wolof",
        ("folder:wolof",),
        ("wol",),
        "MIT",
        "LICENSE.ALFFA.md",
        "notice",
        github.wolof,
    ),
    Source(
        "fillets",
        ("debian:fillets-ng-data-cs", "debian:fillets-ng-data"),
        ("ces",),
        "GPL-2",
        _copyright("fillets-ng-data-cs"),
        "alike",
        debian.fillets,
        held_out=False,
    ),
)

LEFT_OUT = {
    "CherokeeLanguage/cherokee-audio-data: see-say-write, walc-1, wwacc": "CC-BY-NC 4.0: "
    "AUDIO-LICENSE.md in each",
    "CherokeeLanguage/cherokee-audio-data: cno": "for non-commercial works only: "
    "CNO-USAGE-PERMISSION.md",
    "MycroftAI/Precise-Community-Data: heysavant": "CC-BY-NC-SA 4.0: heysavant/licenses",
    "global-asp/asp-audio: stories under CC-BY-NC, or whose text is not in asp-source": "the last "
    "lines of each story in asp-source",
    "hedgewars-data": "GFDL-1.3 for its voices, a licence of documents (its copyright file)",
    "RakshakTeam/emospeech-dataset-v1, syildizn/RavdessSounds, pacscilab/voxangeles": "no licence, "
    "or a non-commercial one",
    "Dutch (nl) of gcompris, tuxpaint, klettres and ktuberling": "a test of an unseen language",
    "Wolof's dev and test": "what models are judged by",
}
"""What is not used, and why."""

NEVER = ("mboshi", "fsdd", "free-spoken-digit")
"""Corpora by which a seed is judged: no source may hold them."""

ATTRIBUTION = {
    "asterisk-it": "Recorded by Carlo Flora (segreterietelefoniche.it), copyright 2012.",
    "asterisk-ru": "Provided by Maxim Topal (ivrvoice.ru), copyright 2010.",
    "armelle": "Voice: Armelle Desjardins; copyright (C) 2006 Michel Gutierrez.",
    "dsp-speech": "Copyright of the authors of zhongyuchen/DSPSpeech-20 (MIT).",
    "arabic-commands": "Arabic Speech Commands Dataset by Abdulkader Ghandoura.",
    "yoruba": "Copyright (c) 2020 Sewade Ogun (MIT).",
    "swahili": "Copyright (c) 2020 Cathy (CateGitau/Swahili-Speech, MIT).",
    "wake-words": "Copyright of Picovoice Inc. (Apache-2.0).",
    "intents": "Copyright of Picovoice Inc. (Apache-2.0).",
    "storybook": "Stories of the African Storybook initiative, read aloud; each story's authors "
    "are named in its last lines in global-asp/asp-source.",
    "wolof": "ALFFA project: E. Gauthier, L. Besacier, S. Voisin, M. Melese and U. P. Elingui, "
    "Collecting Resources in Sub-Saharan African Languages for Automatic Speech Recognition: a "
    "Case Study of Wolof, LREC 2016.",
}
"""What the licences that ask for the authors' names make a model state, by source."""
