"""Runs chunks through functions. What one raises is given to the consumer as a dictionary."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from .chunker import ChunkConfig, Chunker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator


class ChunkProcessor:
    def __init__(self, chunk_config: ChunkConfig | None = None) -> None:
        self.chunker = Chunker(chunk_config)
        self._processors: dict[str, Callable[..., Any]] = {}

    def register_processor(self, name: str, processor: Callable[..., Any]) -> None:
        self._processors[name] = processor

    def process_chunks(
        self, data: str | bytes, processor_name: str, **kwargs: Any
    ) -> Iterator[Any]:
        if processor_name not in self._processors:
            msg = f"no processor {processor_name}"
            raise ValueError(msg)
        cut: Any = self.chunker.chunk_text if isinstance(data, str) else self.chunker.chunk_bytes
        yield from self._processed(cut(data), processor_name, kwargs)

    def process_file_chunks(
        self, file_path: str, processor_name: str, **kwargs: Any
    ) -> Iterator[Any]:
        if processor_name not in self._processors:
            msg = f"no processor {processor_name}"
            raise ValueError(msg)
        yield from self._processed(self.chunker.chunk_file(file_path), processor_name, kwargs)

    def _processed(self, chunks: Any, name: str, kwargs: dict[str, Any]) -> Iterator[Any]:
        for chunk in chunks:
            try:
                yield self._processors[name](chunk, **kwargs)
            except Exception as error:
                yield {"error": str(error)}


class StreamProcessor:
    def __init__(self, chunk_config: ChunkConfig | None = None, max_workers: int = 4) -> None:
        self.chunk_processor = ChunkProcessor(chunk_config)
        self._executor = ThreadPoolExecutor(max_workers=max_workers)

    def register_processor(self, name: str, processor: Callable[..., Any]) -> None:
        self.chunk_processor.register_processor(name, processor)

    def process_stream_sync(
        self,
        data_stream: Iterator[Any],
        processor_name: str,
        stream_id: str | None = None,
        **kwargs: Any,
    ) -> Iterator[Any]:
        del stream_id
        for data in data_stream:
            yield from self.chunk_processor.process_chunks(data, processor_name, **kwargs)

    async def process_stream_async(
        self,
        data_stream: AsyncIterator[Any],
        processor_name: str,
        stream_id: str | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        del stream_id
        loop = asyncio.get_running_loop()
        async for data in data_stream:
            work = partial(self._all_of, data, processor_name, kwargs)
            for result in await loop.run_in_executor(self._executor, work):
                yield result

    def process_parallel(
        self, data_list: list[Any], processor_name: str, **kwargs: Any
    ) -> list[Any]:
        work = [
            self._executor.submit(self._all_of, data, processor_name, kwargs) for data in data_list
        ]
        results: list[Any] = []
        for future in work:
            try:
                results += future.result()
            except Exception as error:
                results.append({"error": str(error)})
        return results

    def _all_of(self, data: Any, name: str, kwargs: dict[str, Any]) -> list[Any]:
        return list(self.chunk_processor.process_chunks(data, name, **kwargs))

    def cleanup(self) -> None:
        self._executor.shutdown(wait=True)
