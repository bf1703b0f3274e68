"""What a destination must know to report to the sandbox: the credentials of every surface, and where each is served."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a destination must be configured with to be let in.

    `adroll_foreign_token`         is known to AdRoll, for another advertisable: it is answered 403
    `rokt_public_key`, `..secret`  open the Event API v2 and the audience import v3
    `rokt_app_id`, `..app_secret`  buy the tokens of the Event API v1 and of the data deletion API
    `rokt_api_key`, `..api_secret` open the Conversions API
    `rokt_audience_key`            opens the audience import api/1.0
    """

    adroll_advertisable: str = "SANDBOXADVERTISABLE001"
    adroll_pixel: str = "SANDBOXPIXEL0000000001"
    adroll_token: str = field(default="sandbox-token", repr=False)
    adroll_foreign_token: str = field(default="sandbox-foreign-token", repr=False)
    rokt_account: str = "sandbox-account"
    rokt_public_key: str = "rpub-sandbox"
    rokt_secret_key: str = field(default="rsec-sandbox", repr=False)
    rokt_app_id: str = "sandbox-app-id"
    rokt_app_secret: str = field(default="sandbox-app-secret", repr=False)
    rokt_api_key: str = "sandbox-api-key"
    rokt_api_secret: str = field(default="sandbox-api-secret", repr=False)
    rokt_audience_key: str = field(default="sandbox-audience-key", repr=False)
    rockerbox_advertiser: str = "sandbox-advertiser"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a served sandbox is. A destination's `base_url` is its vendor's URL here.

    `rokt_url` serves all of api.rokt.com, data.rokt.com and apps.rokt.com; `rokt_conversions_url` mParticle's hosts.
    """

    url: str

    @property
    def adroll_url(self) -> str:
        return f"{self.url}/adroll"

    @property
    def rokt_url(self) -> str:
        return f"{self.url}/rokt"

    @property
    def rokt_conversions_url(self) -> str:
        return f"{self.url}/rokt-conversions"

    @property
    def rockerbox_url(self) -> str:
        return f"{self.url}/rockerbox"


def environment(held: Credentials, addresses: Addresses) -> list[str]:
    """Return the `KIT_*` lines of a shop's environment; what takes Rokt v2's place stands in comments."""
    return [
        f"KIT_ADROLL_ADVERTISABLE={held.adroll_advertisable}",
        f"KIT_ADROLL_PIXEL={held.adroll_pixel}",
        f"KIT_ADROLL_TOKEN={held.adroll_token}",
        f"KIT_ADROLL_BASE_URL={addresses.adroll_url}",
        f"KIT_ROKT_ACCOUNT={held.rokt_account}",
        f"KIT_ROKT_PUBLIC_KEY={held.rokt_public_key}",
        f"KIT_ROKT_SECRET_KEY={held.rokt_secret_key}",
        f"KIT_ROKT_BASE_URL={addresses.rokt_url}",
        "# Rokt's Event API v1, in place of the two keys:",
        f"# KIT_ROKT_APP_ID={held.rokt_app_id}",
        f"# KIT_ROKT_APP_SECRET={held.rokt_app_secret}",
        "# Rokt's Conversions API:",
        f"# KIT_ROKT_API_KEY={held.rokt_api_key}",
        f"# KIT_ROKT_API_SECRET={held.rokt_api_secret}",
        f"# KIT_ROKT_CONVERSIONS_URL={addresses.rokt_conversions_url}",
        f"KIT_ROCKERBOX_ADVERTISER={held.rockerbox_advertiser}",
        f"KIT_ROCKERBOX_BASE_URL={addresses.rockerbox_url}",
    ]
