"""The three destinations as the run sends to them: the real ones, whose requests also say which attempt they are."""

import os
from collections.abc import Sequence

import httpx

from kit.destinations import AdRoll, Destination, Rockerbox, Rokt
from kit.destinations.base import Sending

#: The sender's process, and each delivery with the attempts that it had before: `4711 12:0,13:2`.
HEADER = "kit-torture"


class TracedAdRoll(AdRoll):
    def build(self, sendings: Sequence[Sending]) -> httpx.Request:
        return _traced(AdRoll.build(self, sendings), sendings)


class TracedRokt(Rokt):
    def build(self, sendings: Sequence[Sending]) -> httpx.Request:
        return _traced(Rokt.build(self, sendings), sendings)


class TracedRockerbox(Rockerbox):
    def build(self, sendings: Sequence[Sending]) -> httpx.Request:
        return _traced(Rockerbox.build(self, sendings), sendings)


def traced_vendors(url: str) -> list[Destination]:
    """Return the destinations, at the oracle's server."""
    return [
        TracedAdRoll(advertisable="ADVERTISABLE", pixel="PIXEL", token="token", base_url=f"{url}/adroll"),
        TracedRokt(account="account", public_key="rpub-x", secret_key="rsec-x", base_url=f"{url}/rokt"),
        # A run may cross midnight.
        TracedRockerbox(advertiser="advertiser", cross_day_dedupe=True, base_url=f"{url}/rockerbox"),
    ]


def _traced(request: httpx.Request, sendings: Sequence[Sending]) -> httpx.Request:
    entries = ",".join(f"{sending.delivery_id}:{sending.attempts}" for sending in sendings)
    request.headers[HEADER] = f"{os.getpid()} {entries}"
    return request


def read_header(value: str) -> tuple[int, tuple[tuple[int, int], ...]]:
    """Return the sender's process id, and each delivery with its earlier attempts."""
    pid, _, entries = value.partition(" ")
    pairs = (entry.split(":") for entry in entries.split(","))
    return int(pid), tuple((int(delivery), int(attempts)) for delivery, attempts in pairs)
