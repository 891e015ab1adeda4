"""Writes large inputs for Strataregula: so many patterns, some with wildcards, and prefectures.

    python generate.py FOLDER --patterns 100000

The same options write the same bytes, on every machine. To compile what was written::

    cd FOLDER
    sr compile --traffic traffic.yaml --prefectures prefectures.yaml --out compiled.py
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# A wildcard of these stands for every prefecture, and one of those for every region.
BY_PREFECTURE = ("edge.{name}.*.gateway", "edge.{name}.*.api", "edge.{name}.*.web")
BY_REGION = ("service-hub.{name}.*", "service-hub.{name}.*.queue", "corebrain.{name}.*.model")
LITERAL = ("global.{name}.auth", "edge.tokyo.{name}.gateway", "batch.{name}.nightly")

REGIONS = {
    "hokkaido": "hokkaido",
    "tohoku": "aomori iwate miyagi akita yamagata fukushima",
    "kanto": "ibaraki tochigi gunma saitama chiba tokyo kanagawa",
    "chubu": "niigata toyama ishikawa fukui yamanashi nagano gifu shizuoka aichi",
    "kansai": "mie shiga kyoto osaka hyogo nara wakayama",
    "chugoku": "tottori shimane okayama hiroshima yamaguchi",
    "shikoku": "tokushima kagawa ehime kochi",
    "kyushu": "fukuoka saga nagasaki kumamoto oita miyazaki kagoshima okinawa",
}
WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heron", "iris", "karst")
SERVICES = ["edge", "service-hub", "corebrain", "gateway", "api", "web"]
ROLES = ["gateway", "processor", "worker", "storage", "monitor"]


def patterns(count: int, wildcards: float, seed: int) -> Iterator[tuple[str, float]]:
    """Yield patterns and their times in seconds; a quarter of the wildcards is by prefecture."""
    choice = random.Random(seed)  # noqa: S311 -- the same ones each time is what is wanted
    for number in range(count):
        drawn = choice.random()
        kinds = BY_PREFECTURE if drawn < wildcards / 4 else BY_REGION
        kinds = kinds if drawn < wildcards else LITERAL
        name = f"{choice.choice(WORDS)}-{number:06}"
        yield choice.choice(kinds).format(name=name), choice.randrange(1, 2000) / 1000


def prefectures(count: int) -> dict[str, str]:
    """Return the region of so many prefectures: the 47 that there are, and then invented ones."""
    real = {name: region for region, names in REGIONS.items() for name in names.split()}
    regions = list(REGIONS)
    invented = {f"district-{number}": regions[number % len(regions)] for number in range(count)}
    every = [*real.items(), *invented.items()]
    return dict(every[:count])


def write_traffic(path: Path, count: int, wildcards: float, seed: int) -> None:
    """Write the patterns, as they are made."""
    with path.open("w", encoding="utf-8") as file:
        file.write("service_times:\n")
        for pattern, seconds in patterns(count, wildcards, seed):
            file.write(f'  "{pattern}": {seconds}\n')


def write_prefectures(path: Path, count: int) -> None:
    """Write the prefectures with their regions, and the lists that wildcards are taken from."""
    chosen = prefectures(count)
    lists = {"regions": dict.fromkeys(chosen.values()), "services": SERVICES, "roles": ROLES}
    lines = ["prefectures:", *(f"  {name}: {region}" for name, region in chosen.items())]
    for title, items in lists.items():
        lines += [f"{title}:", *(f"  - {item}" for item in items)]
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    """Write both files, and tell what was written."""
    parser = argparse.ArgumentParser(description="Write large inputs for Strataregula.")
    parser.add_argument("folder", type=Path, help="where to, made if it is not there")
    parser.add_argument("--patterns", type=int, default=1000, help="how many (1000)")
    parser.add_argument("--wildcards", type=float, default=0.4, help="share with wildcards (0.4)")
    parser.add_argument("--prefectures", type=int, default=47, help="how many (47)")
    parser.add_argument("--seed", type=int, default=1, help="other names and times (1)")
    options = parser.parse_args(arguments)
    if options.patterns < 1 or options.prefectures < 1 or not 0 <= options.wildcards <= 1:
        parser.error("--patterns and --prefectures are at least 1, and --wildcards is from 0 to 1")
    options.folder.mkdir(parents=True, exist_ok=True)
    traffic, regional = options.folder / "traffic.yaml", options.folder / "prefectures.yaml"
    write_traffic(traffic, options.patterns, options.wildcards, options.seed)
    write_prefectures(regional, options.prefectures)
    print(f"{traffic}: {options.patterns:,} patterns, {traffic.stat().st_size:,} bytes")
    print(f"{regional}: {options.prefectures:,} prefectures, {regional.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
