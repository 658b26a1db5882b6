"""Languages: the codes that the sources use, ISO 639-3, and the voices of espeak-ng."""

ISO_639_3 = {
    "af": "afr", "ar": "ara", "ast": "ast", "be": "bel", "bg": "bul", "br": "bre", "ca": "cat",
    "cs": "ces", "da": "dan", "de": "deu", "el": "ell", "en": "eng", "en_GB": "eng", "eo": "epo",
    "es": "spa", "eu": "eus", "fi": "fin", "fr": "fra", "ga": "gle", "gd": "gla", "gl": "glg",
    "he": "heb", "hi": "hin", "hu": "hun", "id": "ind", "it": "ita", "kn": "kan", "lg": "lug",
    "lt": "lit", "ml": "mal", "mr": "mar", "myx": "myx", "nb": "nob", "nds": "nds", "nn": "nno",
    "pa": "pan", "pl": "pol", "pt": "por", "pt_BR": "por", "ro": "ron", "ru": "rus", "sk": "slk",
    "sl": "slv", "so": "som", "sr": "srp", "sr@ijekavian": "srp", "sr@ijekavianlatin": "srp",
    "sr@latin": "srp", "sv": "swe", "th": "tha", "tn": "tsn", "tr": "tur", "uk": "ukr",
    "ur": "urd", "wa": "wln", "zh_CN": "cmn", "zh_TW": "cmn",
}  # fmt: skip
"""Of the folders and suffixes of the sources. Dutch (nl) is left out of all of them: it tests what
the model does with a language that it has not learned."""

VOICES = {
    "ara": "ar", "bel": "be", "bul": "bg", "cat": "ca", "ces": "cs", "cmn": "cmn", "dan": "da",
    "deu": "de", "ell": "el", "eng": "en-us", "fra": "fr", "lit": "lt", "mal": "ml", "ron": "ro",
    "rus": "ru", "spa": "es", "swh": "sw",
}  # fmt: skip
"""Voices of espeak-ng for the languages that have transcripts. It knows no Wolof, Yoruba, Cherokee,
Pa'O, Luganda or Masaaba."""

PINYIN_VOICE = "cmn-latn-pinyin"
"""For Mandarin that is written in pinyin with tone digits."""
