"""What remains of an event when its buyer is forgotten, by age or because somebody was erased: the order, its money."""

import hashlib
import json
from collections import Counter
from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, or_, select

from kit.model import DeliveryState
from kit.store.outbox import OPEN
from kit.store.people import NOBODY
from kit.store.rows import identifiers_text, insert_new, milliseconds
from kit.store.tables import conflicts, deliveries, events
from kit.store.tombstones import ERASED

#: What of a conversion tells of its buyer; the rest is the order and its money.
PERSONAL = frozenset(
    "email phone customer_id first_name last_name title gender birth_date language address billing_address device url "
    "extra metadata".split()
)


def impersonal(conversion: str) -> str:
    """Return the stored text without what tells of a buyer; not read as a Conversion, of which there are hundreds."""
    kept = {name: value for name, value in json.loads(conversion).items() if name not in PERSONAL}
    return json.dumps(kept, separators=(",", ":"), ensure_ascii=False)


#: Leaves of an event `b_kept`, and nothing of its buyer.
FORGET = (
    events.update()
    .where(events.c.id == bindparam("b_id"))
    .values(conversion=bindparam("b_kept"), identifiers=identifiers_text(NOBODY), visitor=None)
)


def erase_events(connection: Connection, ids: Collection[int], *, now: datetime) -> Counter[str]:
    """Leave of each event the order and its money; nobody is told of its buyer any more.

    What was not delivered is skipped(erased), and its body goes. A request that is under way ends first: until its
    outcome is written its delivery stays claimed, without a body; then the event's refusal stops it. Returns how many
    events there were that are not erased yet, and how many of their deliveries are skipped.
    """
    query = select(events.c.id, events.c.conversion).where(events.c.id.in_(ids), events.c.signal != ERASED)
    kept = {
        row.id: impersonal(row.conversion) for row in connection.execute(query.order_by(events.c.id).with_for_update())
    }
    if not kept:
        return Counter()
    at = milliseconds(now)
    forget = FORGET.values(granted=False, signal=ERASED, consent_at=at, revision=events.c.revision + 1)
    connection.execute(forget, [{"b_id": id_, "b_kept": text} for id_, text in kept.items()])
    for row in connection.execute(select(conflicts).where(conflicts.c.event.in_(kept))).all():
        forget_conflict(connection, row)
    theirs = deliveries.c.event.in_(kept)
    connection.execute(deliveries.update().where(theirs).values(payload=None, detail=None, curable=False))
    waiting = or_(deliveries.c.state.in_(_STANDING), _IS_IN_HAND)
    over = {"state": DeliveryState.SKIPPED, "reason": ERASED, "settled_at": func.coalesce(deliveries.c.settled_at, at)}
    free = {"lease_token": None, "lease_until": None, "owner": None}
    skipped = connection.execute(deliveries.update().where(theirs, waiting).values(**over, **free)).rowcount
    return Counter(events=len(kept), deliveries=skipped)


_STANDING = (DeliveryState.PENDING, DeliveryState.HELD, DeliveryState.DEAD, DeliveryState.SKIPPED)
#: A worker has it, and nothing of it is under way.
_IS_IN_HAND = (deliveries.c.state == DeliveryState.CLAIMED) & (func.coalesce(deliveries.c.outcome, "") != OPEN)


def keep_conflict(connection: Connection, event: int, fields: str, conversion: str, *, at: int) -> None:
    """Keep once what a repeat said differently of these fields."""
    digest = hashlib.sha256(conversion.encode()).hexdigest()[:32]
    columns = ("event", "digest", "fields", "conversion", "at")
    insert_new(connection, conflicts, columns, [(event, digest, fields, conversion, at)], by=2)


def forget_conflict(connection: Connection, row: Any) -> None:
    """Leave of what a repeat said differently the order and its money; its digest too was of a buyer."""
    connection.execute(delete(conflicts).where(conflicts.c.id == row.id))
    keep_conflict(connection, row.event, row.fields, impersonal(row.conversion), at=row.at)
