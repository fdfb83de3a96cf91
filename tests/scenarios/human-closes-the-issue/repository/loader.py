"""Reads records in the background and hands them out in order."""

import asyncio
from collections.abc import Sequence

# Every worker opens its own copy of the store before it reads.
START_S = 0.4


class Loader:
    def __init__(self, records: Sequence[int]) -> None:
        self._records = records

    async def first(self) -> int:
        """The first record, once the worker has started."""
        await asyncio.sleep(START_S)
        return self._records[0]

    def __len__(self) -> int:
        return len(self._records)
