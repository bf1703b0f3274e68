"""segment-analytics-python emptying its queue in memory. python -m tests.benchmarks.peers.segment URL EVENTS BATCH"""

import queue
import sys

from segment.analytics.consumer import Consumer

from tests.benchmarks.peers.events import event
from tests.benchmarks.peers.spent import spent

url, events, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
waiting = queue.Queue()
for number in range(events):
    waiting.put(event(number))
failed = []
consumer = Consumer(
    waiting, "write-key", host=url, upload_size=batch, gzip=False, on_error=lambda error, _: failed.append(error)
)
with spent():
    while not waiting.empty():
        consumer.upload()
if failed:
    raise SystemExit(f"segment failed: {failed[0]!r}")
