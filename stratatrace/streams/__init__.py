"""Data that does not fit: files searched in windows, streams taken in chunks that fit."""

from __future__ import annotations

from stratatrace.streams.adaptive import adaptive_chunks, adaptive_chunks_async
from stratatrace.streams.chunks import AdaptiveChunks, AsyncAdaptiveChunks
from stratatrace.streams.mapped import MappedFile, Match
from stratatrace.streams.processing import Chunk, ProcessedStream, process_stream
from stratatrace.streams.scanning import Found, scan

__all__ = [
    "AdaptiveChunks",
    "AsyncAdaptiveChunks",
    "Chunk",
    "Found",
    "MappedFile",
    "Match",
    "ProcessedStream",
    "adaptive_chunks",
    "adaptive_chunks_async",
    "process_stream",
    "scan",
]
