"""The task ``phones``: that of :mod:`speechssl.pretext.supervised` on a manifest's `ipa`."""

from dataclasses import dataclass
from typing import ClassVar

from speechssl.pretext.supervised import CTCConfig


@dataclass(frozen=True)
class PhonesConfig(CTCConfig):
    """As ctc, of the manifest's `ipa`."""

    name: ClassVar[str] = "phones"
    uses_text: ClassVar[bool] = False
    uses_phones: ClassVar[bool] = True
