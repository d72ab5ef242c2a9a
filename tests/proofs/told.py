"""Tables of what the tests have to be told of each statement, as it must not come from the definition they attack."""

from __future__ import annotations

from typing import NoReturn, TypeVar

T = TypeVar("T")


class Told(dict[str, T]):
    """By statement, or by the name of a part of one; who asks for what is not there is told where to add it."""

    def __init__(self, place: str, entries: dict[str, T]) -> None:
        super().__init__(entries)
        self._place = place

    def __missing__(self, name: str) -> NoReturn:
        raise AssertionError(f"{name} is missing in {self._place}: see docs/optimizers.md, 'Adding one'")
