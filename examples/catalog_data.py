"""What a supplier sends: a catalogue of some 20 MB, one product a line, as JSON.

The two import examples read it. It is made anew each time, and is the same each time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from pathlib import Path

_ADJECTIVES = ("sturdy", "brushed", "folding", "compact", "double", "classic", "slim")
_MATERIALS = ("oak", "steel", "linen", "bamboo", "brass")
_THINGS = (
    ("bath", "towel rail"),
    ("garden", "bench"),
    ("kitchen", "colander"),
    ("lighting", "floor lamp"),
    ("office", "shelf"),
    ("tools", "workbench"),
)


class Product(TypedDict):
    """One line of the catalogue."""

    sku: str
    name: str
    category: str
    price_cents: int
    stock: int
    description: str
    tags: list[str]
    size_mm: dict[str, int]


def write_catalogue(path: Path, products: int = 40_000) -> None:
    """Write a catalogue of so many products."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(map(_line, range(products)))


def _line(number: int) -> str:
    # By hand, because json.dumps would take longer than all that the examples are about.
    category, thing = _THINGS[number % len(_THINGS)]
    adjective = _ADJECTIVES[number % len(_ADJECTIVES)]
    material = _MATERIALS[number % len(_MATERIALS)]
    description = f"A {adjective} {thing}, made of {material}. " * 6
    return (
        f'{{"sku": "SKU-{number:08}", "name": "{adjective} {material} {thing} no. {number}", '
        f'"category": "{category}", "price_cents": {199 + number * 7919 % 50_000}, '
        f'"stock": {number * 31 % 97}, "description": "{description}", '
        f'"tags": ["{adjective}", "{material}", "{thing}", "series {number % 1000}"], '
        f'"size_mm": {{"width": {10 + number % 900}, "height": {10 + number % 700}, '
        f'"depth": {number % 300}}}}}\n'
    )
