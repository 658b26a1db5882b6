"""What a file's bytes hold, against what its header claims.

:func:`find_parts` looks at a recording without decoding it: at the pages, frames or chunks that its
container is made of.
"""

import struct

from speechssl.audio.containers import chunked, flac, mpeg, ogg
from speechssl.audio.containers.source import Part, PartFile, Source

__all__ = ["Part", "PartFile", "Source", "find_parts"]

_MPEG_SUFFIXES = (".mp3", ".mp2", ".mpga", ".mpeg")


def find_parts(source: Source, name: str) -> list[Part] | None:
    """The recordings that follow each other in `source`.

    None where there is one and its header is right about it, so that a decoder can be given the
    file as it is; also where the bytes are of no known container, or too damaged to tell.
    """
    head = source.at(0, chunked.PLAIN_HEAD)
    if chunked.is_plain_wav(head, source.size):  # most recordings, told in microseconds
        return None
    try:
        if head.startswith(b"OggS"):
            return ogg.find_parts(source)
        if head.startswith(b"fLaC"):
            return flac.find_parts(source)
        if head.startswith((b".snd", b"dns.")):
            return chunked.find_au_parts(source)
        if head.startswith(b"ID3"):
            return flac.find_parts(source) if flac.is_flac(source) else mpeg.find_parts(source)
        is_named_so = name.lower().endswith(_MPEG_SUFFIXES) and not head[:4].isalpha()
        if mpeg.is_frame(head) or is_named_so:
            return mpeg.find_parts(source)
        return chunked.find_parts(source)
    except (struct.error, IndexError):
        return None
