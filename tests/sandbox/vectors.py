"""The clock and the credentials of the vectors in contracts.md 9."""

from base64 import b64encode
from datetime import UTC, datetime

from kit.sandbox import Credentials

NOW = datetime(2026, 1, 15, tzinfo=UTC)

VECTORS = Credentials(
    adroll_advertisable="ADVEID0000000000000001",
    adroll_pixel="PIXEID0000000000000001",
    adroll_token="SAT-1",
    rokt_account="12345",
    rokt_public_key="rpub-1111",
    rokt_secret_key="rsec-2222",
    rokt_app_id="app-id-1",
    rokt_app_secret="app-secret-1",
    rokt_api_key="key-1",
    rokt_api_secret="secret-1",
    rokt_audience_key="API-KEY-1",
    rockerbox_advertiser="ADV_ID",
)

#: The shortest request that counts.
WEBHOOK = "/rockerbox/webhook/data?advertiser=ADV_ID"
EVENT = {"action": "purchase", "timestamp": "1768435110", "customer_id": "c", "order_id": "1"}


class Clock:
    """A clock that a test moves."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


def basic(name: str, secret: str) -> str:
    return f"Basic {b64encode(f'{name}:{secret}'.encode()).decode()}"
