"""A worker in its own process, for some seconds at a backlog: says how much memory it took, as a line of JSON.

    python -m tests.benchmarks.bench_growth_worker STORE SINK SECONDS

Nothing is imported that a shop's worker would not import.
"""

import asyncio
import json
import re
import sys
from pathlib import Path

from sqlalchemy import func, select

from kit import Kit
from kit.destinations import Rokt
from kit.store.tables import deliveries


def peak() -> int:
    """Return the most memory that this program took, in KiB. `resource` would tell the parent's, if that is more."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])


async def work(store: str, sink: str, seconds: float) -> None:
    rokt = Rokt(account="123", public_key="rpub-1", secret_key="rsec-1", base_url=sink)
    kit = Kit(secret_keys=["a-key-of-sixteen-characters"], consent="opt_out", store=store, destinations=[rokt])
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
