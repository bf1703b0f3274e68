"""Connections to PostgreSQL: every wait has an end, nothing stays in a session."""

from datetime import timedelta
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL

from kit.store.statements import OWN

#: How long the server waits for the next statement of one of our transactions before it gives the transaction up: a
#: writer that is frozen or cut off in the middle must not keep its rows from the others.
LONGEST_IDLE = timedelta(seconds=10)
#: How long we wait for the server beyond the time that it has for a statement: then the line is dead, whatever it says.
GRACE = timedelta(seconds=3)


def engine_of(url: URL, *, lock_timeout: timedelta, read_only: bool) -> Engine:
    """Return an engine whose statements and lock waits end by themselves, at the server and here."""
    milliseconds = int(lock_timeout.total_seconds() * 1000)
    settings = {
        "lock_timeout": str(milliseconds),
        "statement_timeout": str(milliseconds),
        "idle_in_transaction_session_timeout": str(LONGEST_IDLE // timedelta(milliseconds=1)),
        **({"transaction_read_only": "on"} if read_only else {}),
    }
    begin = "; ".join(["BEGIN", *(f"SET LOCAL {name} = '{value}'" for name, value in settings.items())])
    # Prepared statements live in a session, and a pooler in between may give the next transaction another one.
    engine = create_engine(
        url,
        pool_pre_ping=True,
        execution_options=OWN,
        hide_parameters=True,
        connect_args={"prepare_threshold": None, "connect_timeout": max(2, int(lock_timeout.total_seconds()))},
    )

    @event.listens_for(engine, "do_connect")
    def _connect(_dialect: object, _record: object, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        # The driver must not begin transactions on its own; `_begin` below does.
        line = _Line.connect(*arguments, autocommit=True, **named)
        line.longest = (lock_timeout + GRACE).total_seconds()
        return line

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # For each transaction, and for it alone, on one way there and back: PostgreSQL takes many statements at once
        # where they have no parameters.
        connection.exec_driver_sql(begin, execution_options={"no_parameters": True})

    return engine


class _Line(psycopg.Connection[Any]):
    """A connection that waits for an answer no longer than `longest` seconds: a line may fall silent without a word."""

    longest = 10.0

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        try:
            return super().wait(gen, interval, timeout or self.longest)
        except psycopg.OperationalError:
            # Still waiting for an answer: nothing more can be asked on this one.
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.close()
            raise
