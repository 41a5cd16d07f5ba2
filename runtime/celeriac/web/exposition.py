"""Prometheus' text format, in which a web process tells figures.

Its own library is not in here: what a project locks is the project's, and this writes what is counted elsewhere.
(https://prometheus.io/docs/instrumenting/exposition_formats/)
"""

from collections.abc import Iterable, Mapping, Sequence

from celeriac.figures import BUCKETS

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"


class Page:
    """The figures of one answer; those of one name stand together, whoever adds them."""

    def __init__(self) -> None:
        self._families: dict[str, list[str]] = {}

    def add(self, name: str, kind: str, about: str, samples: Iterable[tuple[Mapping[str, str], float]]) -> None:
        """Add values of one name.

        Args:
            name: with its unit, as Prometheus wants it.
            kind: `COUNTER` or `GAUGE`.
            about: a line of what it is.
            samples: each with its labels.
        """
        family = self._family(name, kind, about)
        family += [f"{name}{_labels(labels)} {value:.15g}" for labels, value in samples]

    def add_histogram(
        self, name: str, about: str, labels: Mapping[str, str], counts: Sequence[int], sum: float
    ) -> None:
        """Add a histogram.

        Args:
            name: with its unit, as Prometheus wants it.
            about: a line of what it is.
            labels: of all its values.
            counts: as in `Histogram`.
            sum: as in `Histogram`.
        """
        family, total = self._family(name, HISTOGRAM, about), 0
        for bound, count in zip([*map("{:g}".format, BUCKETS), "+Inf"], counts, strict=True):
            total += count
            family.append(f"{name}_bucket{_labels({**labels, 'le': bound})} {total}")
        family.append(f"{name}_sum{_labels(labels)} {sum:.15g}")
        family.append(f"{name}_count{_labels(labels)} {total}")

    def __str__(self) -> str:
        """Return the text."""
        return "".join(f"{line}\n" for family in self._families.values() for line in family)

    def _family(self, name: str, kind: str, about: str) -> list[str]:
        return self._families.setdefault(name, [f"# HELP {name} {about}", f"# TYPE {name} {kind}"])


def _labels(labels: Mapping[str, str]) -> str:
    def escaped(value: str) -> str:
        return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

    inside = ",".join(f'{name}="{escaped(value)}"' for name, value in labels.items())
    return f"{{{inside}}}" if inside else ""
