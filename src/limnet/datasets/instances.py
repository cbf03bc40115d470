"""InstanceNames: names of objects that are only numbered, without listing the numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping


class InstanceNames(Mapping[int, str]):
    """Label ids -> "<kind> <number>" for data sets that tell objects apart but do not say how many there are.

    Args:
        runs: (kind, first id, last id), in ascending order; numbers of a kind start at 1.
    """

    __slots__ = ("runs",)

    def __init__(self, *runs: tuple[str, int, int]) -> None:
        self.runs = runs

    def __getitem__(self, label: int) -> str:
        for kind, first, last in self.runs:
            if first <= label <= last:
                return f"{kind} {label - first + 1}"
        raise KeyError(label)

    def __contains__(self, label: object) -> bool:
        return isinstance(label, int) and any(first <= label <= last for _, first, last in self.runs)

    def __iter__(self) -> Iterator[int]:
        for _, first, last in self.runs:
            yield from range(first, last + 1)

    def __len__(self) -> int:
        return sum(last - first + 1 for _, first, last in self.runs)

    def __repr__(self) -> str:
        return f"InstanceNames{self.runs}"
