"""pgqueuer emptying its table by hundreds, jobs that do nothing. python -m tests.benchmarks.peers.queuer URL JOBS"""

import asyncio
import logging
import sys

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries
from pgqueuer.types import QueueExecutionMode

from tests.benchmarks.peers.spent import spent

logging.disable(logging.CRITICAL)


async def main(url, jobs):
    connection = await asyncpg.connect(url)
    driver = AsyncpgDriver(connection)
    queries = Queries(driver)
    await queries.install()
    await queries.enqueue(["noop"] * jobs, [b"x" * 600] * jobs, [0] * jobs)
    await connection.execute("analyze")
    queuer, done = PgQueuer(driver), 0

    @queuer.entrypoint("noop")
    async def noop(job):
        nonlocal done
        done += 1

    with spent() as facts:
        await queuer.run(batch_size=100, mode=QueueExecutionMode.drain)
        facts["done"] = done


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
