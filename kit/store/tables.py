"""The tables. Times are epoch milliseconds UTC, JSON is text, states are the words of `model.DeliveryState`."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

#: SQLite gives row ids to INTEGER primary keys only.
_Id = BigInteger().with_variant(Integer, "sqlite")
_Time = BigInteger

meta = Table("meta", metadata, Column("key", String(64), primary_key=True), Column("value", Text, nullable=False))

touchpoints = Table(
    "touchpoints",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("visitor", String(32), nullable=False),
    Column("vendor", String(64), nullable=False),
    Column("click_id", Text, nullable=False),
    Column("at", _Time, nullable=False),
    Column("url", Text),
    Column("referrer", Text),
    Column("utm", Text),
    Column("first_party_cookie", String(128)),
    Column("user_agent", Text),
    UniqueConstraint("visitor", "vendor", "click_id"),
    Index("ix_touchpoints_first_party_cookie", "first_party_cookie"),
)

#: The one table with clear e-mail addresses and phone numbers; found by keyed hash, never by value.
identities = Table(
    "identities",
    metadata,
    Column("kind", String(16), primary_key=True),
    Column("lookup", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

links = Table(
    "links",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("visitor", String(32), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("lookup", String(64), nullable=False),
    Column("level", String(16), nullable=False),
    Column("source", String(32), nullable=False),
    Column("at", _Time, nullable=False),
    UniqueConstraint("visitor", "kind", "lookup", "level"),
    Index("ix_links_kind_lookup_at", "kind", "lookup", "at"),
)

orders = Table(
    "orders",
    metadata,
    Column("order_id", String(128), primary_key=True),
    Column("visitor", String(32)),
    Column("identifiers", Text, nullable=False),
    Column("granted", Boolean),
    Column("signal", String(32), nullable=False),
    Column("at", _Time, nullable=False),
    Index("ix_orders_visitor", "visitor"),
    Index("ix_orders_at", "at"),
)

consents = Table(
    "consents",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("visitor", String(32), nullable=False),
    Column("granted", Boolean),
    Column("signal", String(32), nullable=False),
    Column("at", _Time, nullable=False),
    Index("ix_consents_visitor_at", "visitor", "at"),
)

events = Table(
    "events",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("event_id", String(36), nullable=False, unique=True),
    Column("name", String(64), nullable=False),
    Column("order_id", String(128)),
    Column("visitor", String(32)),
    Column("at", _Time, nullable=False),
    Column("reported_at", _Time, nullable=False),
    Column("conversion", Text, nullable=False),
    Column("identifiers", Text, nullable=False),
    Column("granted", Boolean),
    Column("signal", String(32), nullable=False),
    Column("consent_at", _Time, nullable=False),
    Column("revision", Integer, nullable=False),
    Index("ix_events_order_id", "order_id"),
    Index("ix_events_visitor", "visitor"),
)

conflicts = Table(
    "conflicts",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("event", _Id, ForeignKey("events.id"), nullable=False),
    Column("digest", String(32), nullable=False),
    Column("fields", Text, nullable=False),
    Column("conversion", Text, nullable=False),
    Column("at", _Time, nullable=False),
    UniqueConstraint("event", "digest"),
)

#: One row for each HTTP request, committed before a byte leaves. Its outcome is written once: open → a verdict.
attempts = Table(
    "attempts",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("destination", String(64), nullable=False),
    Column("opened_at", _Time, nullable=False),
    Column("closed_at", _Time),
    Column("outcome", String(16), nullable=False),
    Column("status", Integer),
    Column("detail", Text),
    Column("deliveries", Integer, nullable=False),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("event", _Id, ForeignKey("events.id"), nullable=False),
    Column("destination", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", String(32)),
    Column("detail", Text),
    Column("curable", Boolean, nullable=False),
    Column("due_at", _Time, nullable=False),
    Column("created_at", _Time, nullable=False),
    Column("settled_at", _Time),
    Column("attempts", Integer, nullable=False),
    Column("crashes", Integer, nullable=False),
    #: How often its worker ended while it was claimed and no attempt was open.
    Column("lost", Integer, nullable=False, server_default=text("0")),
    #: How often the vendor answered without taking it, and whether the latest try since then had no answer.
    Column("refused", Integer, nullable=False, server_default=text("0")),
    Column("in_doubt", Boolean, nullable=False, server_default=false()),
    Column("batch_limit", Integer),
    Column("payload", LargeBinary),
    Column("attempt", _Id, ForeignKey("attempts.id")),
    Column("outcome", String(16)),
    Column("lease_token", String(32)),
    Column("lease_until", _Time),
    Column("owner", String(128)),
    UniqueConstraint("event", "destination"),
)

_PENDING = text("state = 'pending'")
_CLAIMED = text("state = 'claimed'")
Index(
    "ix_deliveries_due",
    deliveries.c.destination,
    deliveries.c.due_at,
    deliveries.c.id,
    sqlite_where=_PENDING,
    postgresql_where=_PENDING,
)
Index("ix_deliveries_lease", deliveries.c.lease_until, sqlite_where=_CLAIMED, postgresql_where=_CLAIMED)
# What retention looks for. A delivery is in neither while it is pending, so a report does not pay for them.
_ENDED = text("settled_at IS NOT NULL")
_HAS_BODY = text("state = 'delivered' AND payload IS NOT NULL")
_TRIED = text("attempt IS NOT NULL")
Index("ix_deliveries_settled", deliveries.c.settled_at, sqlite_where=_ENDED, postgresql_where=_ENDED)
Index("ix_deliveries_body", deliveries.c.settled_at, sqlite_where=_HAS_BODY, postgresql_where=_HAS_BODY)
Index("ix_deliveries_attempt", deliveries.c.attempt, sqlite_where=_TRIED, postgresql_where=_TRIED)

#: A delivery's own outcome at each attempt before its latest one; a delivery that succeeds at once has none.
earlier_attempts = Table(
    "earlier_attempts",
    metadata,
    Column("delivery", _Id, ForeignKey("deliveries.id"), primary_key=True),
    Column("attempt", _Id, ForeignKey("attempts.id"), primary_key=True),
    Column("outcome", String(16), nullable=False),
    Column("detail", Text),
    Index("ix_earlier_attempts_attempt", "attempt"),
)

#: The shapes in which a vendor answered: names and kinds of fields, no values. `known`: its destination expects it.
answers = Table(
    "answers",
    metadata,
    Column("destination", String(64), primary_key=True),
    Column("status", Integer, primary_key=True),
    Column("shape", String(16), primary_key=True),
    Column("sketch", Text, nullable=False),
    Column("known", Boolean, nullable=False),
    Column("seen", Integer, nullable=False),
    Column("first_at", _Time, nullable=False),
    Column("last_at", _Time, nullable=False),
)

#: Which vendors' pixels reported an order from the page, by the page's word: the order may never be reported here.
pixel_reports = Table(
    "pixel_reports",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("order_id", String(128), nullable=False),
    Column("vendor", String(16), nullable=False),
    Column("at", _Time, nullable=False),
    UniqueConstraint("order_id", "vendor"),
)

#: Keyed hashes of whom the store erased: what comes back of them is not kept.
tombstones = Table(
    "tombstones",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("at", _Time, nullable=False),
    Index("ix_tombstones_at", "at"),
)

#: What holds a whole destination back: it was asked to wait, or its set-up is wrong. No row: nothing does.
gates = Table(
    "gates",
    metadata,
    Column("destination", String(64), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("until", _Time, nullable=False),
    Column("since", _Time, nullable=False),
    Column("reason", Text, nullable=False),
    #: Of the set-up that met it, a few bits of a digest: tells a changed one, and nothing of what it was.
    Column("fingerprint", String(8)),
)
