"""The packages that read formats of linguists (extra ``linguist``), imported when first needed.

A missing one is a ModuleNotFoundError, which the command line turns into the name of the extra.
"""

from typing import Any


def pympi() -> Any:
    """The package that reads ELAN's files."""
    import pympi.Elan

    return pympi.Elan


def praatio() -> Any:
    """The part of praatio that reads the text of a TextGrid."""
    from praatio.utilities import textgrid_io

    return textgrid_io


def pysubs2() -> Any:
    """The package that reads subtitles."""
    import pysubs2

    return pysubs2
