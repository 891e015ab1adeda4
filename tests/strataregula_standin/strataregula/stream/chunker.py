"""Cuts data into chunks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class ChunkConfig:
    chunk_size: int = 8192
    overlap_size: int = 0
    encoding: str | None = None


class Chunker:
    def __init__(self, config: ChunkConfig | None = None) -> None:
        self.config = config or ChunkConfig()

    def chunk_bytes(self, data: bytes, chunk_size: int | None = None) -> Iterator[bytes]:
        size = chunk_size or self.config.chunk_size
        for start in range(0, len(data), size):
            yield data[start : start + size]

    def chunk_text(self, data: str, chunk_size: int | None = None) -> Iterator[str]:
        size = chunk_size or self.config.chunk_size
        for start in range(0, len(data), size):
            yield data[start : start + size]

    def chunk_file(self, file_path: str | Path) -> Iterator[Any]:
        if self.config.encoding:
            yield from self.chunk_text(Path(file_path).read_text(encoding=self.config.encoding))
        else:
            yield from self.chunk_bytes(Path(file_path).read_bytes())

    def chunk_with_overlap(self, data: Any, chunk_size: int | None = None) -> Iterator[Any]:
        size = chunk_size or self.config.chunk_size
        if self.config.overlap_size >= size:
            msg = "chunks must be larger than their overlap"
            raise ValueError(msg)
        for start in range(0, len(data), size - self.config.overlap_size):
            yield data[start : start + size]

    def chunk_iterable(
        self, iterable: Iterator[Any], chunk_size: int | None = None
    ) -> Iterator[list[Any]]:
        items = list(iterable)
        size = chunk_size or self.config.chunk_size
        for start in range(0, len(items), size):
            yield items[start : start + size]
