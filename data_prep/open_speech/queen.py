"""The archive of the game Flight of the Amazon Queen (`queen.1c`), as ScummVM's tool compress_queen
writes it.

    "QTBL"  version[6]  floppy:u8  demo:u8  coding:u8 ... entries:u16
    entries times: name[12]  bundle:u8  offset:u32  size:u32

All numbers are big-endian, offsets from the start of the file. `.SB` members are speech; coding 1
is MP3, 2 Ogg Vorbis, 3 FLAC. Names of speech are scene, line and who speaks: 'J' is Joe, the hero.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_ENTRY = struct.Struct(">12sBII")
_HEADER = struct.Struct(">4s6s2xBH")
_CODINGS = (1, 2, 3)


@dataclass(frozen=True, slots=True)
class Member:
    name: str
    offset: int
    size: int


def members(path: Path) -> Iterator[Member]:
    """The members of the archive, in its order.

    Raises ValueError where the file is no such archive, or ends before its table or a member does.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEADER.size)
        if len(head) < _HEADER.size or head[:4] != b"QTBL":
            raise ValueError(f"{path} is not an archive of compress_queen: it begins {head[:4]!r}.")
        _, _, coding, num = _HEADER.unpack(head)
        if coding not in _CODINGS:
            raise ValueError(f"{path} holds speech in coding {coding}; 1, 2 and 3 are known.")
        table = file.read(num * _ENTRY.size)
    if len(table) < num * _ENTRY.size:
        raise ValueError(f"{path} ends within its table of {num} members.")
    for name, _, offset, length in _ENTRY.iter_unpack(table):
        member = Member(name.split(b"\0")[0].decode("ascii"), offset, length)
        if offset + length > size:
            raise ValueError(f"{path} ends before its member {member.name} does.")
        yield member
