"""snowplow-tracker's emitter, on one kept connection. python -m tests.benchmarks.peers.snowplow URL EVENTS BATCH"""

import logging
import sys
from urllib.parse import urlsplit

import requests
from snowplow_tracker import Emitter

from tests.benchmarks.peers.events import flat
from tests.benchmarks.peers.spent import spent

logging.disable(logging.CRITICAL)
url, events, batch = urlsplit(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
payloads = [flat(number) for number in range(events)]
failed = []
emitter = Emitter(
    url.hostname,
    protocol="http",
    port=url.port,
    method="post",
    batch_size=batch,
    session=requests.Session(),
    on_failure=lambda count, lost: failed.append(count),
)
with spent():
    for payload in payloads:
        emitter.input(payload)
    emitter.flush()
if failed:
    raise SystemExit("snowplow failed")
