"""Normalisers keep what a language needs, and make equal what only keyboards tell apart."""

import time
import unicodedata

import pytest

from speechssl.text import NORMALIZERS, lower_case, normalize


@pytest.mark.parametrize("name", NORMALIZERS)
def test_every_normaliser_keeps_tone_marks_and_gives_nfc(name: str) -> None:
    for text in ("ά έ ώ ó wá", "mɔ́ ɛ̀ ŋ̀", "tiếng việt", "नमस्ते", "你好 吗", "שָׁלוֹם", "ꦗꦮ"):
        decomposed = unicodedata.normalize("NFD", text)
        assert normalize(decomposed, name) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize("name", NORMALIZERS)
def test_every_normaliser_is_idempotent_on_every_character(name: str) -> None:
    for code in range(0x3000):
        once = normalize(f"a{chr(code)}b'{chr(code)} -", name)
        assert normalize(once, name) == once, hex(code)


def test_oxia_and_tonos_are_the_same_letter() -> None:
    assert normalize("\u1f71", "none") == normalize("\u03ac", "none") == "ά"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("none", "  A\u00a0b\t\n C ", "A b C"),
        ("none", "What’s, THIS?", "What’s, THIS?"),
        ("lower", "ÁBA Straße ΟΔΟΣ", "ába straße οδος"),
        ("basic", "Don’t stop, (now)!", "don't stop now"),
        ("basic", "á-ba 'bla' rock 'n' - roll--over", "á-ba bla rock n roll over"),
        ("basic", "l‘été à 3,5 $ 😀", "l'été à 3 5"),
        ("basic", "¿qué? «oui» 。你好！", "qué oui 你好"),
        ("basic", "ma˥˩ ʻokina pa꞉", "ma˥˩ ʻokina pa꞉"),
        ("basic", "col·lega · fin", "col·lega fin"),
        ("basic", "می\u200cخواهم \ufeffa\u200bb", "می\u200cخواهم a b"),
        ("basic", "?!…", ""),
    ],
)
def test_normalisers(name: str, text: str, expected: str) -> None:
    assert normalize(text, name) == expected


def test_an_unknown_normaliser_lists_those_that_exist() -> None:
    with pytest.raises(ValueError, match='"whisper"; choose one of: none, lower, basic'):
        normalize("a", "whisper")


# --- over scripts: (script, what was typed, what is compared)

ALIKE = {
    # Letters with a dot, apostrophes that are letters or signs, invisible characters.
    "Turkish, capital": ("İSTANBUL", "istanbul"),
    "Turkish, two code points": ("I\u0307zmir", "izmir"),
    "Turkish, lowered by Python": ("i\u0307zmir", "izmir"),
    "Turkish, dotless": ("ılık DİYARBAKIR'DA", "ılık diyarbakir'da"),
    "Lithuanian, dot below an accent": ("i\u0307\u0301", "i\u0307\u0301"),
    "Ukrainian, letter": ("п\u02bcять", "п'ять"),
    "Ukrainian, quotation mark": ("П\u2019ЯТЬ", "п'ять"),
    "Ukrainian, keyboard": ("п'ять", "п'ять"),
    "Hawaiian, letter": ("Hawai\u02bbi", "hawai'i"),
    "Hawaiian, quotation mark": ("Hawai\u2018i", "hawai'i"),
    "Hawaiian, at the beginning": ("\u02bbokina", "\u02bbokina"),
    "Uzbek": ("O\u02bbzbek ma\u02bcno", "o'zbek ma'no"),
    "Tlapanec, saltillo": ("xi\ua78ca XI\ua78bA", "xi'a xi'a"),
    "Romanised Russian": ("pal\u02b9to", "pal'to"),
    "Spanish keyboard": ("d\u00b4accord d\u0060accord", "d'accord d'accord"),
    "Armenian": ("Դ\u055aԱրթ", "դ'արթ"),
    "Nenets, at both ends": ("\u02bcя\u02bc", "\u02bcя\u02bc"),
    "Arabic, tatweel": ("مـــرحبا", "مرحبا"),
    "Arabic, marks of direction": ("\u200fمرحبا\u200e \u202bبك\u202c\u061c", "مرحبا بك"),
    "Arabic, presentation forms": ("\ufee3\ufeae\ufea3\ufe92\ufe8e", "مرحبا"),
    "Arabic, lam-alef": ("\ufefb", "لا"),
    "Hebrew, gershayim": ('צה"ל צה״ל צה”ל', "צה״ל צה״ל צה״ל"),
    "Hebrew, geresh": ("ג'ירפה ג׳ירפה", "ג׳ירפה ג׳ירפה"),
    "Hebrew, points and direction": ("\u2067שָׁלוֹם\u2069!", "שָׁלוֹם"),
    "Persian, non-joiner": ("می\u200cخواهم", "می\u200cخواهم"),
    "Persian, non-joiner twice": ("می\u200c\u200cخواهم", "می\u200cخواهم"),
    "Persian, non-joiner beside a space": ("می\u200c خواهم\u200c.", "می خواهم"),
    "Kurdish, joiner": ("ه\u200dی", "ه\u200dی"),
    "Hindi, half form": ("क्\u200dष", "क्\u200dष"),
    "Hindi, danda": ("नमस्ते।", "नमस्ते"),
    "Hindi, nukta": ("\u0958लम", "क़लम"),
    "Marathi, eyelash ra": ("दर्\u200dया", "दर्\u200dया"),
    "Bengali, ra and ya-phala": ("র\u200d্যাব", "র\u200d্যাব"),
    "Bengali, khanda ta": ("উত্\u200d", "উৎ"),
    "Malayalam, chillu": ("അവന്\u200d", "അവൻ"),
    "Sinhala": ("ශ්\u200dරී", "ශ්\u200dරී"),
    "Thai, words marked": ("สวัสดี\u200bครับ", "สวัสดี ครับ"),
    "Lao, non-joiner": ("ລາ\u200cວ", "ລາວ"),
    "Khmer, words marked": ("ខ្ញុំ\u200bទៅ\u200b\u200bផ្ទះ", "ខ្ញុំ ទៅ ផ្ទះ"),
    "Khmer, inherent vowel": ("ក\u17b4រ", "ករ"),
    "Burmese": ("မြန်မာ\u200bစာ", "မြန်မာ စာ"),
    "Mongolian, vowel separator": ("ᠰᠠᠷ\u180eᠠ", "ᠰᠠᠷ\u180eᠠ"),
    "Mongolian, variation selector": ("ᠪ\u180bᠠ", "ᠪᠠ"),
    "N'Ko, stretched": ("ߒߞ\u07faߏ", "ߒߞߏ"),
    "Chinese": ("\ufeff你好，\u3000世界！", "你好 世界"),
    "Chinese, variation selector": ("葛\U000e0100城", "葛城"),
    "Japanese, full width": ("ＡＢＣ１２３", "abc123"),
    "Japanese, half width": ("ｶﾞｷﾞｸﾞ ｽｰﾊﾟｰ", "ガギグ スーパー"),
    "Japanese, word joiner": ("東\u2060京", "東京"),
    "Korean": ("\u1112\u1161\u11ab국\u3164어", "한국 어"),
    "Yoruba": ("E\u0323\u0300kọ́", "ẹ̀kọ́"),
    "Yoruba, marks the other way": ("e\u0300\u0323", "ẹ̀"),
    "Vietnamese": ("Tiê\u0301ng Viê\u0323t", "tiếng việt"),
    "Greek": ("ΟΔΟΣ", "οδος"),
    "German, soft hyphen": ("Donau\u00addampf", "donaudampf"),
    "German, non-joiner": ("Auf\u200clage", "auflage"),
    "English, ligature": ("oﬃce", "office"),
    "English, word joiner": ("well\u2060-\u2060known", "well-known"),
    "Amharic": ("ሰላም።", "ሰላም"),
    "Emoji": ("a ❤\ufe0f b 👩\u200d🌾", "a b"),
}


@pytest.mark.parametrize("script", ALIKE)
def test_what_only_keyboards_tell_apart_is_equal(script: str) -> None:
    typed, compared = ALIKE[script]
    assert normalize(typed, "basic") == unicodedata.normalize("NFC", compared)
    assert normalize(compared, "basic") == unicodedata.normalize("NFC", compared)


@pytest.mark.parametrize(
    ("text", "lower"),
    [
        ("\ufeffİyi", "iyi"),
        ("A\u2060b\u200eC\u200f\u202a\u2066", "abc"),
        ("ខ្ញុំ\u200bទៅ", "ខ្ញុំ ទៅ"),
        ("X\u00ady, Z!", "xy, z!"),  # punctuation stays
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("مـرحبا ＡＢ п\u02bcять", "مـرحبا ａｂ п\u02bcять"),  # and so do letters that are seen
    ],
)
def test_lower_leaves_out_what_nobody_sees_and_no_more(text: str, lower: str) -> None:
    assert normalize(text, "lower") == lower


def test_none_leaves_every_character_but_white_space() -> None:
    for text in ("\ufeffa\u2060b", "İ", "п\u02bcять", "مـ", "a\u200bb", "\u200fx"):
        assert normalize(text, "none") == text


@pytest.mark.parametrize("name", NORMALIZERS)
def test_normalisers_are_idempotent_on_invisible_characters_and_apostrophes(name: str) -> None:
    odd = "\u200b\u200c\u200d\u2060\ufeff\u180e\u02bc\u02bb\u0307\u0640'`-\uff9e\ufe0f iİनב्"
    for a in odd:
        for b in odd:
            for before, after in (("a", "b"), ("न", "न"), ("ب", "ب"), ("ב", "ב"), ("", "")):
                once = normalize(f"{before}{a}{b}{after}", name)
                assert normalize(once, name) == once, (before, a, b, after)


def test_plain_text_is_as_before() -> None:
    """Letters, marks, digits and ASCII are themselves, but for their case."""
    for code in range(0x20, 0x3000):
        char = chr(code)
        plain = unicodedata.category(char)[0] in "LN" and not unicodedata.decomposition(char)
        if plain and char not in "İʻʼʹـߺ" and not 0x115F <= code <= 0x1160:
            lowered = unicodedata.normalize("NFC", char.lower())
            assert normalize(f"{char}a", "basic") == f"{lowered}a" == lower_case(f"{char}a")


def test_a_hundred_thousand_letters_are_quick() -> None:
    start = time.process_time()
    normalize("می\u200cخواهم " * 10_000, "basic")
    assert time.process_time() - start < 2.0  # 0.15 s on two cores of a server
