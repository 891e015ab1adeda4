"""A gazetteer that makes each index when it is first asked for, and what each takes in the trace.

Three indexes over the same places: by name, by square of the map, by height. The first question of
a kind makes its index, which is a span within that of the question, with the memory that it takes.
Later questions of the kind take nothing. Nobody asks for heights here, and so that index is never
made: made with the gazetteer, all three would be held from the beginning.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from stratatrace import lazy, profile_memory

PLACES = 30_000
SQUARE_KM = 25


@dataclass(frozen=True, slots=True)
class Place:
    """A place on the map."""

    name: str
    east_km: int
    north_km: int
    height_m: int


@lazy
def abbreviations() -> dict[str, str]:
    """Return what names are shortened to; the same for every gazetteer."""
    return {"Saint": "St", "Mount": "Mt", "Upper": "U", "Lower": "L"}


class Gazetteer:
    """Places, and where to find them."""

    def __init__(self, count: int) -> None:
        kinds = tuple(abbreviations())
        self._places = [
            Place(f"{kinds[n % 4]} {n}", n * 7919 % 1000, n * 104_729 % 1000, n * 31 % 4000)
            for n in range(count)
        ]

    @lazy
    def by_name(self) -> dict[str, Place]:
        """The places by their names, and by what these are shortened to."""
        index: dict[str, Place] = {}
        for place in self._places:
            kind, number = place.name.split()
            index[place.name] = index[f"{abbreviations()[kind]} {number}"] = place
        return index

    @lazy
    def by_square(self) -> dict[tuple[int, int], list[Place]]:
        """The places of each square of the map."""
        squares: dict[tuple[int, int], list[Place]] = {}
        for place in self._places:
            square = (place.east_km // SQUARE_KM, place.north_km // SQUARE_KM)
            squares.setdefault(square, []).append(place)
        return squares

    @lazy
    def by_height(self) -> list[Place]:
        """The places, the lowest first."""
        return sorted(self._places, key=lambda place: place.height_m)

    def above(self, height_m: int) -> list[Place]:
        """Return the places that lie that high or higher."""
        places = self.by_height
        return places[bisect_left(places, height_m, key=lambda place: place.height_m) :]


@profile_memory
def find(gazetteer: Gazetteer, name: str) -> Place:
    """Return the place of a name."""
    return gazetteer.by_name[name]


@profile_memory
def near(gazetteer: Gazetteer, place: Place) -> int:
    """Return how many places share the square of a place."""
    square = (place.east_km // SQUARE_KM, place.north_km // SQUARE_KM)
    return len(gazetteer.by_square[square])


def main() -> None:
    """Ask some questions."""
    gazetteer = Gazetteer(PLACES)
    for name in ("St 1200", "Mount 2401", "L 7"):
        place = find(gazetteer, name)
        neighbours = near(gazetteer, place)
        print(f"{name}: {place.name}, {place.height_m} m, one of {neighbours} in its square")
    made = [
        name
        for name in ("by_name", "by_square", "by_height")
        if getattr(Gazetteer, name).is_computed(gazetteer)
    ]
    print(f"indexes made: {', '.join(made)}")


if __name__ == "__main__":
    main()
