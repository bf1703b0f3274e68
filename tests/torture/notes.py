"""What the oracle and the monkey write down, for the verdict."""

from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class Noted:
    """One request as the oracle saw it. Times are epoch seconds; `taken` are places of events that were counted."""

    number: int
    vendor: str
    at: float
    pid: int
    entries: tuple[tuple[int, int], ...]
    digests: tuple[str, ...] = ()
    play: str = ""
    status: int | None = None
    taken: tuple[int, ...] = ()
    refused: tuple[int, ...] = ()
    retry_after: int | None = None
    answered: float | None = None


@dataclass(slots=True, kw_only=True)
class Ledger:
    """Everything that the oracle knows. `acked` has the answers of `report` by event: was it new?"""

    orders: int = 0
    events: int = 0
    acked: dict[str, list[bool]] = field(default_factory=dict)
    requests: list[Noted] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """What the monkey did: `kill`, `freeze` (until `ended`) or a blow to the database. Times are epoch seconds."""

    what: str
    role: str
    pid: int
    at: float
    ended: float
    aimed: bool
