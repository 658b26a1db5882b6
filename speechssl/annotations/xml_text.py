"""Text that XML can hold, and the encoding of a file of XML."""

import codecs
import re
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 (section 2.2) has no place for: control characters and lone surrogates."""

_DECLARED = re.compile(rb"""^\s*<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")


def content(text: str) -> str:
    """A text as the content of an element; characters that XML cannot hold become spaces."""
    return escape(_NOT_XML.sub(" ", text))


def attribute(text: str) -> str:
    """A text as the value of an attribute, with its quotes."""
    return quoteattr(_NOT_XML.sub(" ", text))


def decode_xml(data: bytes, path: Path) -> tuple[str, str]:
    """``(text, encoding)`` of a file of XML, a byte order mark left in the text, so that encoding
    it again gives the same bytes.

    Raises ValueError where the encoding is unknown, or the file is in another one than it says.
    """
    if data.startswith((codecs.BOM_UTF16_LE, b"<\0")):
        encoding = "utf-16-le"
    elif data.startswith((codecs.BOM_UTF16_BE, b"\0<")):
        encoding = "utf-16-be"
    else:
        match = _DECLARED.match(data.removeprefix(codecs.BOM_UTF8))
        encoding = match[1].decode("ascii") if match else "utf-8"
    try:
        return data.decode(encoding), encoding
    except LookupError:
        raise ValueError(
            f"{path} says that its encoding is {encoding}, which is unknown."
        ) from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not in {encoding.upper()}, its encoding by its first line ({error.reason} "
            f"at byte {error.start}): save it again in the program that made it."
        ) from None
