"""Representations of many recordings as one Parquet file: a row for each frame, or recording.

The only place that imports pyarrow (extra ``parquet``). Shapes: T frames, D width.
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from speechssl.inference.extract import Features
from speechssl.inference.feature_files import append_frames, mean_frame
from speechssl.system import replace

_VALUES_AT_ONCE = 4_000_000
"""Numbers in a row group: about 16 MB."""


class FeatureTable:
    """A Parquet file that takes its name when it is left without an exception, and only if there is
    a row in it.

    Columns: ``audio``, then ``time_s`` and ``features`` (D float32) for each frame; where `pool`,
    ``num_frames`` and the mean ``features`` of each recording. Memory is bounded by a row group.
    """

    def __init__(self, path: Path, *, pool: bool, about: dict[str, Any] | None = None) -> None:
        """A file that becomes `path`; `about` is kept in its metadata as JSON, as ``speechssl``."""
        self.path, self.pool = path, pool
        self._about = {"speechssl": json.dumps(about or {}, ensure_ascii=False)}
        self._fresh = path.with_name(f".{path.name}.part")
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is None:
            return
        try:
            self._writer.close()
            if kind is None:
                replace(self._fresh, self.path)
        finally:
            self._fresh.unlink(missing_ok=True)

    def add(self, audio: str, parts: Iterator[Features]) -> tuple[int, int]:
        """The rows of a recording -> (T, D); none of them where its parts end with an error."""
        if self.pool:
            vector, num_frames = mean_frame(parts)
            self.add_mean(audio, vector, num_frames)
            return num_frames, len(vector)
        with tempfile.TemporaryFile(dir=self.path.parent) as spool:
            times_s = append_frames(parts, spool)
            width = spool.tell() // (4 * len(times_s))
            spool.seek(0)
            rows = max(_VALUES_AT_ONCE // width, 1)
            for start in range(0, len(times_s), rows):
                frames = np.frombuffer(spool.read(4 * rows * width), "<f4").reshape(-1, width)
                self._write(audio, "time_s", times_s[start : start + rows], frames)
        return len(times_s), width

    def add_mean(self, audio: str, vector: np.ndarray, num_frames: int) -> None:
        """The row of a recording, of the mean (D,) of its frames."""
        self._write(audio, "num_frames", np.array([num_frames]), vector[None])

    def _write(self, audio: str, name: str, values: np.ndarray, frames: np.ndarray) -> None:
        """Rows with the recording's name, a column of their own (T,), and frames (T, D)."""
        audio = audio.encode(errors="backslashreplace").decode()  # a name may be no UTF-8
        names = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(frames), np.int32)), [audio])
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(frames.ravel()), frames.shape[1])
        columns = {"audio": names, name: pa.array(values), "features": vectors}
        table = pa.table(columns).replace_schema_metadata(self._about)
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._fresh, table.schema, compression="zstd", use_dictionary=["audio"]
            )
        self._writer.write_table(table)
