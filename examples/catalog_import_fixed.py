"""Import a product catalogue, and hold one product at a time.

The same report as `catalog_import.py` writes. The file is read line by line, each product is added
to the sums of its category, and is gone before the next one is parsed.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from catalog_data import write_catalogue

from stratatrace import profile_memory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from catalog_data import Product


@dataclass(slots=True)
class Category:
    """What the report tells of one category."""

    products: int = 0
    value_cents: int = 0
    dearest_cents: int = -1
    dearest_name: str = ""

    def add(self, product: Product) -> None:
        """Count one more product."""
        self.products += 1
        self.value_cents += product["price_cents"] * product["stock"]
        if product["price_cents"] > self.dearest_cents:
            self.dearest_cents, self.dearest_name = product["price_cents"], product["name"]


def parse_products(catalogue: Path) -> Iterator[Product]:
    """Yield the products of a catalogue, one by one."""
    with catalogue.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


@profile_memory
def sum_up(products: Iterable[Product]) -> dict[str, Category]:
    """Return the sums of the products that can be sold, category by category."""
    categories: dict[str, Category] = {}
    for product in products:
        if product["stock"]:
            categories.setdefault(product["category"], Category()).add(product)
    return categories


@profile_memory
def summarise(categories: dict[str, Category]) -> list[str]:
    """Return the lines of the report."""
    return [
        f"{name:10} {category.products:6} products, {category.value_cents / 100:15,.2f} in stock, "
        f"dearest: {category.dearest_name}"
        for name, category in sorted(categories.items())
    ]


@profile_memory
def write_report(lines: list[str], report: Path) -> None:
    """Write the report."""
    report.write_text("\n".join(lines) + "\n", encoding="utf-8")


def import_catalogue(catalogue: Path, report: Path) -> None:
    """Read a catalogue, and write what it offers to a report."""
    categories = sum_up(parse_products(catalogue))
    write_report(summarise(categories), report)


def main() -> None:
    """Import a catalogue in a folder of its own, and show the report."""
    with tempfile.TemporaryDirectory() as folder:
        catalogue, report = Path(folder, "catalogue.jsonl"), Path(folder, "report.txt")
        write_catalogue(catalogue)
        # sample_ratio=1: measured every time, also where only a sample of the calls is.
        with profile_memory("import", budget="32MB", sample_ratio=1) as block:
            import_catalogue(catalogue, report)
        print(report.read_text(encoding="utf-8"), end="")
        megabytes = (block.measurement.heap_peak_bytes or 0) / 1e6
        print(f"The import took {megabytes:.2f} MB at its highest.", file=sys.stderr)


if __name__ == "__main__":
    main()
