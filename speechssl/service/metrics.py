"""What the service counts, in the text format of Prometheus (version 0.0.4)."""

import threading
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

BOUNDS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Counters and one histogram, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: defaultdict[tuple[str, Labels], float] = defaultdict(float)
        self._buckets: Counter[float] = Counter()
        self._sum_s, self._num = 0.0, 0

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        with self._lock:
            self._counts[name, tuple(sorted(labels.items()))] += amount

    def took(self, seconds: float) -> None:
        """Of a transcription request, from its first byte to its last."""
        with self._lock:
            self._sum_s += seconds
            self._num += 1
            for bound in BOUNDS_S:
                self._buckets[bound] += int(seconds <= bound)

    def text(self, gauges: Mapping[str, tuple[str, float]]) -> str:
        """All of it, and values of now: name -> (help, value)."""
        with self._lock:
            counts = sorted(self._counts.items())
            buckets = [(bound, self._buckets[bound]) for bound in BOUNDS_S]
            total, num = self._sum_s, self._num
        lines: list[str] = []
        for name in dict.fromkeys(name for (name, _), _ in counts):
            lines.append(f"# TYPE speechssl_{name}_total counter")
            for (other, labels), value in counts:
                if other == name:
                    lines.append(f"speechssl_{name}_total{_shown(labels)} {value:.12g}")
        for name, (meaning, value) in gauges.items():
            lines += [f"# HELP speechssl_{name} {meaning}", f"# TYPE speechssl_{name} gauge"]
            lines.append(f"speechssl_{name} {value:.12g}")
        lines.append("# TYPE speechssl_request_seconds histogram")
        lines += [f'speechssl_request_seconds_bucket{{le="{b:g}"}} {n}' for b, n in buckets]
        lines.append(f'speechssl_request_seconds_bucket{{le="+Inf"}} {num}')
        lines += [f"speechssl_request_seconds_sum {total:.6f}"]
        lines += [f"speechssl_request_seconds_count {num}"]
        return "\n".join(lines) + "\n"


def _shown(labels: Sequence[tuple[str, str]]) -> str:
    pairs = ",".join(f'{name}="{value}"' for name, value in labels)
    return f"{{{pairs}}}" if pairs else ""
