"""Import a product catalogue, and hold far too much of it.

Every step is correct, and every step keeps all that it makes: the text of the file, its lines, the
parsed products, and an index with a copy of each product. What that costs, step by step, is in the
table of ``stratatrace run examples/catalog_import.py``; `catalog_import_fixed.py` beside this file
writes the same report and never holds more than a few kilobytes.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from catalog_data import write_catalogue

from stratatrace import profile_memory

if TYPE_CHECKING:
    from catalog_data import Product


@profile_memory
def read_lines(catalogue: Path) -> list[str]:
    """Return all lines of a catalogue."""
    return catalogue.read_text(encoding="utf-8").splitlines()


@profile_memory
def parse_products(lines: list[str]) -> list[Product]:
    """Return all products of a catalogue."""
    return [json.loads(line) for line in lines]


@profile_memory
def index_by_category(products: list[Product]) -> dict[str, list[Product]]:
    """Return the products that can be sold, category by category."""
    index: dict[str, list[Product]] = {}
    for product in products:
        if product["stock"]:
            index.setdefault(product["category"], []).append(product.copy())
    return index


@profile_memory
def summarise(index: dict[str, list[Product]]) -> list[str]:
    """Return the lines of the report."""
    lines = []
    for category, products in sorted(index.items()):
        dearest = max(products, key=lambda product: product["price_cents"])
        value_cents = sum(product["price_cents"] * product["stock"] for product in products)
        lines.append(
            f"{category:10} {len(products):6} products, {value_cents / 100:15,.2f} in stock, "
            f"dearest: {dearest['name']}"
        )
    return lines


@profile_memory
def write_report(lines: list[str], report: Path) -> None:
    """Write the report."""
    report.write_text("\n".join(lines) + "\n", encoding="utf-8")


def import_catalogue(catalogue: Path, report: Path) -> None:
    """Read a catalogue, and write what it offers to a report."""
    lines = read_lines(catalogue)
    products = parse_products(lines)
    index = index_by_category(products)
    write_report(summarise(index), report)


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
