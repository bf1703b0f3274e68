"""The clock and the credentials of the vectors in contracts.md 9."""

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
    rockerbox_advertiser="ADV_ID",
)
