"""Tables of what the tests have to be told of each statement, as it must not come from the definition they attack."""

from __future__ import annotations

from typing import NoReturn, TypeVar

T = TypeVar("T")


class Told(dict[str, T]):
    """By statement; a test that asks for one that is not there fails and says where to add it."""

    def __init__(self, place: str, entries: dict[str, T]) -> None:
        super().__init__(entries)
        self._place = place

    def __missing__(self, name: str) -> NoReturn:
        raise AssertionError(f"{name} is missing in {self._place}: see docs/optimizers.md, 'Adding one'")
