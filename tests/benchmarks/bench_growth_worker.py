"""A worker in its own process, for some seconds at a backlog: says how much memory it took, as a line of JSON.

    python -m tests.benchmarks.bench_growth_worker STORE SINK SECONDS
"""

import asyncio
import json
import re
import sys
from pathlib import Path

from sqlalchemy import func, select

from kit.store.tables import deliveries
from tests.benchmarks.bench_drain_worker import destination_of, kit_of


def peak() -> int:
    """Return the most memory that this program took, in KiB. `resource` would tell the parent's, if that is more."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])


async def work(store: str, sink: str, seconds: float) -> None:
    kit = kit_of(store, destination_of("Rokt", sink))
    await kit.ready()
    running = asyncio.create_task(kit.worker.run())
    await asyncio.sleep(seconds)
    kit.worker.stop()
    await running
    query = select(func.count()).where(deliveries.c.state == "delivered")
    delivered = await kit.store.read(lambda connection: connection.scalar(query))
    kit.store.close()
    print(json.dumps({"peak_kib": peak(), "delivered": delivered}))


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], sys.argv[2], float(sys.argv[3])))
