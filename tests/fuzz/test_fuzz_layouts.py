"""speechssl.data.layouts: whatever its files hold, recordings come out or a file is named."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechssl.data.layouts import Recording, read_layout
from tests.fuzz.damage import damaged

FILES = {
    "tsv": {
        "x.tsv": "path\ttext\tspeaker\tstart_s\tduration_s\tsplit\n"
        "a.wav\twó ya\tabi\t0.5\t1.5\ttrain\nb.wav\tpoo\tabi\t\t\tdev\n"
    },
    "csv": {"x.csv": 'path;text\na.wav;"wó; ""ya"""\nb.wav;poo\n'},
    "kaldi": {
        "wav.scp": "r1 a.wav\nr2 sub/b.wav\n",
        "text": "u1 wó ya\nu2 poo\n",
        "utt2spk": "u1 abi\nu2 abi\n",
        "segments": "u1 r1 0.0 1.5\nu2 r2 0.25 -1\n",
    },
    "fairseq": {"train.tsv": "/data/wav\na.wav\t16000\nb.wav\t8000\n", "train.wrd": "wó\npoo\n"},
}

NASTY = ["x" * 300, "a\0b", "nan", "inf", "-5", "1e999", "a|", "/" * 5000, "²", "\u2028", "\r"]


def is_read_or_refused(folder) -> None:
    said = ""
    try:
        recordings = list(read_layout(folder))
    except ValueError as error:
        recordings, said = [], str(error)
    assert not said or str(folder) in said
    for recording in recordings:
        assert isinstance(recording, Recording)
        assert 0 <= recording.start_s < math.inf
        assert recording.duration_s is None or 0 <= recording.duration_s < math.inf


@pytest.mark.parametrize("layout", FILES)
@given(data=st.data())
def test_a_damaged_layout_is_read_or_a_file_is_named(layout, data, tmp_path):
    for name, text in FILES[layout].items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    path = tmp_path / data.draw(st.sampled_from(sorted(FILES[layout])))
    whole = path.read_bytes()
    if data.draw(st.booleans()):
        path.write_bytes(data.draw(damaged(whole)))
    else:  # one field becomes something else
        fields = path.read_text(encoding="utf-8").replace("\n", " \n ").split(" ")
        fields[data.draw(st.integers(0, len(fields) - 1))] = data.draw(st.sampled_from(NASTY))
        path.write_text(" ".join(fields), encoding="utf-8")
    is_read_or_refused(tmp_path)
