"""speechssl.data.layouts: whatever its files hold, recordings come out or a file is named."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechssl.data.layouts import Recording, read_source
from tests.fuzz.damage import damaged

FILES = {
    "tsv": {
        "x.tsv": "path\ttext\tspeaker\tstart_s\tduration_s\tsplit\n"
        "a.wav\twó ya\tabi\t0.5\t1.5\ttrain\nb.wav\tpoo\tabi\t\t\tdev\n"
    },
    "csv": {"x.csv": 'path;text\na.wav;"wó; ""ya"""\nb.wav;poo\n'},
    "excel": {
        "x.tsv": 'sep=\t\r\npath\ttext\tStart (s)\tend\r\na.wav\t"wó, ""ya"""\t0,5\t1.5\r\n'
        "sub\\b.wav\tpoo\t0:01\t2,5\r\n\t\t\t\r\n"
    },
    "r": {"x.csv": '"path","text"\n"1","a.wav","wó"\n"2","b.wav",NA\n'},
    "ljspeech": {"metadata.csv": "a|wó, 1|wó, one\nb|poo|poo\n", "wavs/a.wav": ""},
    "json": {
        "metadata.jsonl": '{"file_name": "a.wav", "text": "wó ya", "offset": 0.5}\n'
        '{"file_name": "b.wav", "duration": 1500, "text": null}\n'
    },
    "texts": {
        "a.wav": "",
        "b.WAV": "",
        "a.txt": "wó ya",
        "B.TXT": "poo",
        "all.trans.txt": "a wó\nb\tpoo\n",
        "b.lab": "0 5 sil\n5 9 wó\n",
        "sub/t.csv": "path,text\na.wav,wó\n",
    },
    "kaldi": {
        "wav.scp": "r1 a.wav\nr2 sub/b.wav\n",
        "text": "u1 wó ya\nu2 poo\n",
        "utt2spk": "u1 abi\nu2 abi\n",
        "segments": "u1 r1 0.0 1.5\nu2 r2 0.25 -1\n",
    },
    "fairseq": {"train.tsv": "/data/wav\na.wav\t16000\nb.wav\t8000\n", "train.wrd": "wó\npoo\n"},
}

NASTY = [
    "\ufeff",
    '"',
    "NA",
    "sep=;",
    "{",
    "[[",
    "\u0301",
    "C:\\",
    "..",
    "0:0",
    "\t",
    "\n",
    "x" * 300,
    "a\0b",
    "nan",
    "inf",
    "-5",
    "1e999",
    "a|",
    "/" * 5000,
    "²",
    "\u2028",
    "\r",
]


def is_read_or_refused(source, folder) -> None:
    message = ""
    try:
        recordings = read_source(source).recordings
    except ValueError as error:
        recordings, message = [], str(error)
    assert not message or str(folder) in message
    for recording in recordings:
        assert isinstance(recording, Recording)
        assert 0 <= recording.start_s < math.inf
        assert recording.duration_s is None or 0 <= recording.duration_s < math.inf


@pytest.mark.parametrize("layout", FILES)
@given(data=st.data())
def test_a_damaged_layout_is_read_or_a_file_is_named(layout, data, tmp_path):
    for name, text in FILES[layout].items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(text.encode())
    path = tmp_path / data.draw(st.sampled_from(sorted(FILES[layout])))
    whole = path.read_bytes()
    if data.draw(st.booleans()):
        path.write_bytes(data.draw(damaged(whole)))
    else:  # one field becomes something else
        fields = path.read_text(encoding="utf-8").replace("\n", " \n ").split(" ")
        fields[data.draw(st.integers(0, len(fields) - 1))] = data.draw(st.sampled_from(NASTY))
        path.write_text(" ".join(fields), encoding="utf-8")
    for place in (tmp_path, path):
        is_read_or_refused(place, tmp_path)
