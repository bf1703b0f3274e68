"""What this package raises. Errors carry facts as attributes and never a value that a person typed.

KitError
├── ConfigurationError   a setting is missing or wrong; raised at start, never later
├── InvalidInput         a value handed to us cannot be what it says; names the field
└── StoreUnavailable     the store did not answer in time; nothing is known to be stored
    └── StoreFull        the store takes no more reports until there is room; nothing was stored
"""


class KitError(Exception):
    """Everything this package raises on purpose."""


class ConfigurationError(KitError):
    """A setting is missing or wrong. Raised when the kit is built, so that a shop never starts half right."""

    def __init__(self, setting: str, reason: str) -> None:
        super().__init__(f"{setting}: {reason}")
        self.setting = setting
        self.reason = reason


class InvalidInput(KitError, ValueError):  # noqa: N818 - reads as what happened
    """A value cannot be what its field says. The message names the field and never repeats the value."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class StoreUnavailable(KitError):  # noqa: N818 - reads as what happened
    """The store did not answer within `store_timeout`.

    Whether the call was stored is not known; calling again with the same order is safe. A page catches it and goes
    on; a payment webhook lets it become a 503, so that the provider tries again.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"the store is not available: {reason}")
        self.reason = reason


class StoreFull(StoreUnavailable):
    """The store is past one of its limits and takes no more reports until there is room. Nothing was stored.

    `limit` is "waiting", "store_bytes" or "free_disk_bytes" (see `Limits`), or "disk" when the disk itself is full. A
    shop treats it as it treats StoreUnavailable: the page goes on, a payment webhook answers 503.
    """

    def __init__(self, limit: str, reason: str) -> None:
        super().__init__(reason)
        self.limit = limit
