"""The oracle: the one process that is never killed. It issues orders, plays the vendors, and notes all that it sees."""

import asyncio
import hashlib
import json
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from kit.model import event_id_of
from kit.sandbox.faults import Answer, give
from kit.sandbox.sockets import served_in_loop
from tests.torture.notes import Ledger, Noted
from tests.torture.orders import order_of
from tests.torture.plan import Plan
from tests.torture.plays import HELD, Director, Play
from tests.torture.vendors import HEADER, read_header

#: What stands before and after the events of a body.
_ENVELOPES = {"adroll": ("[", "]"), "rokt": ('{"accountId":"account","events":[', "]}"), "rockerbox": ("", "")}
_SHARES = {"adroll": 0.75}

_NOTHING = Answer(status=200, headers=(), body=b"")


class Vendors:
    """An ASGI app: the first part of the path names the vendor."""

    def __init__(self, seed: int, ledger: Ledger) -> None:
        self.directors = {vendor: Director(vendor, seed) for vendor in _ENVELOPES}
        self.seen: dict[str, set[int]] = {vendor: set() for vendor in _ENVELOPES}
        self._ledger = ledger
        self._trap: asyncio.Future[int] | None = None

    async def trap(self, vendor: str) -> int:
        """Hold the next request at this vendor back for a moment; return whose it is while that process waits."""
        self._trap_vendor = vendor
        self._trap = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(0.5):
                return await self._trap
        except TimeoutError:
            return 0
        finally:
            self._trap = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        vendor = scope["path"].split("/")[1]
        pid, entries = read_header(Headers(scope=scope)[HEADER])
        requests = self._ledger.requests
        noted = Noted(number=len(requests), vendor=vendor, at=time.time(), pid=pid, entries=entries)
        requests.append(noted)
        trapped = self._trap is not None and not self._trap.done() and self._trap_vendor == vendor
        play = HELD if trapped else self.directors[vendor].next()
        noted.play = play.name
        body = b"" if play.fault.reset == "before" else await _read(receive)
        if body is None:
            noted.play = "cut off"
            return
        answer = self._take(noted, play, body) if body else _NOTHING
        if trapped and self._trap is not None and not self._trap.done():
            self._trap.set_result(pid)
        try:
            await give(answer, play.fault, scope, receive, send)
        except ConnectionResetError:
            return  # the caller was killed before we could hang up
        noted.answered = None if play.fault.reset else time.time()

    def _take(self, noted: Noted, play: Play, body: bytes) -> Answer:
        """Note what the request holds, and return what is answered."""
        pieces = _pieces(noted.vendor, body.decode())
        noted.digests = tuple(digest(piece.encode()) for piece in pieces)
        self.seen[noted.vendor].update(delivery for delivery, _ in noted.entries)
        refused = self.directors[noted.vendor].refused(len(pieces)) if play.partial else {}
        noted.refused = tuple(refused)
        if play.takes:
            noted.taken = tuple(place for place in range(len(pieces)) if place not in refused)
        noted.status = None if play.fault.silent else play.status
        noted.retry_after = play.retry_after
        records = [
            {"record": json.loads(pieces[place]), "error": {"code": code, "message": "as played"}}
            for place, code in refused.items()
        ]
        said = b"<html>hello" if play.garbage else json.dumps({"data": {"unprocessedRecords": records}}).encode()
        headers = [("content-length", str(len(said))), ("content-type", "application/json")]
        if play.retry_after is not None:
            headers.append(("retry-after", str(play.retry_after)))
        return Answer(status=play.status, headers=headers, body=said)


async def _read(receive: Receive) -> bytes | None:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += bytes(message.get("body", b""))
        if not message.get("more_body", False):
            return body


def _pieces(vendor: str, text: str) -> list[str]:
    """Return each event of a body with the very characters in which it came."""
    before, after = _ENVELOPES[vendor]
    if not (text.startswith(before) and text.endswith(after)):
        return [text]
    decoder, place, pieces = json.JSONDecoder(), len(before), []
    while place < len(text) - len(after):
        _, end = decoder.raw_decode(text, place)
        pieces.append(text[place:end])
        place = end + 1
    return pieces


def digest(piece: bytes) -> str:
    return hashlib.blake2b(piece, digest_size=12).hexdigest()


class Desk:
    """Issues orders to producers, line by line: `claim` is answered with a number, `wait` or `done`."""

    def __init__(self, plan: Plan, ledger: Ledger) -> None:
        self._plan = plan
        self._ledger = ledger
        self._again: list[int] = []
        self.allowed = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := (await reader.readline()).decode():
                match line.split():
                    case ["claim"]:
                        writer.write(f"{self._claim()}\n".encode())
                    case ["acked", event_id, new]:
                        self._ledger.acked.setdefault(event_id, []).append(new == "new")
        except ConnectionError:
            pass  # a producer was killed
        finally:
            writer.close()

    def _claim(self) -> int | str:
        if self._again:
            return self._again.pop()
        if self._ledger.events >= self._plan.number:
            return "done"
        return self.issue() if self._ledger.events < self.allowed else "wait"

    def issue(self) -> int:
        """Issue the next order; one that is to be reported twice goes to the next caller too."""
        self._ledger.orders += 1
        order = order_of(self._plan, self._ledger.orders)
        self._ledger.events += len({event_id_of(conversion) for conversion in order.conversions})
        if order.twice:
            self._again.append(order.number)
        return order.number


async def _tell(plan: Plan, control: Connection) -> None:
    """Serve until told to stop; `control` is the driver's, one question and one answer at a time."""
    ledger = Ledger()
    vendors, desk = Vendors(plan.seed, ledger), Desk(plan, ledger)
    server = await asyncio.start_server(desk.serve, "127.0.0.1", 0)
    loop = asyncio.get_running_loop()
    async with server, served_in_loop(vendors, "127.0.0.1", 0) as url:
        control.send((url, server.sockets[0].getsockname()[1]))
        while True:
            question, argument = await loop.run_in_executor(None, control.recv)
            match question:
                case "allow":
                    desk.allowed = argument
                    control.send(None)
                case "progress":
                    control.send((ledger.events, len(ledger.acked), _least(vendors.seen)))
                case "trap":
                    control.send(await vendors.trap(argument))
                case "quiet":
                    for director in vendors.directors.values():
                        director.quiet = True
                    control.send(None)
                case "probe":
                    control.send(desk.issue())
                case "seen":
                    control.send(sorted(_digests(ledger.requests[argument:])))
                case "ledger":
                    control.send(ledger)
                case _:
                    return


def _least(seen: dict[str, set[int]]) -> int:
    """Return how many events the slowest vendor has come to; AdRoll is sent no refunds and no unknown browsers."""
    return min(round(len(deliveries) / _SHARES.get(vendor, 1.0)) for vendor, deliveries in seen.items())


def _digests(requests: Sequence[Noted]) -> set[str]:
    return {each.digests[place] for each in requests for place in each.taken}


def be_oracle(plan: Plan, control: Connection) -> None:
    """Run until the driver says `stop` or goes away."""
    try:
        asyncio.run(_tell(plan, control))
    except EOFError:
        pass
