"""Reads the environment: `KIT_*` variables, checked at start. Only parses; `Kit.from_env` builds from it."""

import os
from typing import Annotated, Literal

from pydantic import SecretStr, ValidationError
from pydantic.functional_validators import BeforeValidator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from kit.errors import ConfigurationError
from kit.model import Mode


def _words(value: object) -> object:
    return tuple(word.strip() for word in value.split(",") if word.strip()) if isinstance(value, str) else value


_Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]


class Settings(BaseSettings):
    """One field for each variable: `store` is `KIT_STORE`. Lists are separated by commas."""

    model_config = SettingsConfigDict(env_prefix="KIT_", extra="ignore", frozen=True, hide_input_in_errors=True)

    secret_keys: Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_words)] = ()
    consent: Literal["opt_in", "opt_out"] | None = None
    store: str = "sqlite:///kit.db"
    mode: Mode | None = None
    cookie_domain: str | None = None
    insecure_cookies: bool = False
    trusted_proxies: _Words = ()
    origins: _Words = ()
    index_key: SecretStr | None = None
    adroll_advertisable: str | None = None
    adroll_pixel: str | None = None
    adroll_token: SecretStr = SecretStr("")
    adroll_pixel_reports: _Words = ()
    adroll_base_url: str | None = None
    rokt_account: str | None = None
    rokt_public_key: SecretStr = SecretStr("")
    rokt_secret_key: SecretStr = SecretStr("")
    rokt_app_id: SecretStr = SecretStr("")
    rokt_app_secret: SecretStr = SecretStr("")
    rokt_api_key: SecretStr = SecretStr("")
    rokt_api_secret: SecretStr = SecretStr("")
    rokt_pod: str | None = None
    rokt_environment: Literal["production", "development"] | None = None
    rokt_hashing: _Words = ()
    rokt_base_url: str | None = None
    rokt_conversions_url: str | None = None
    rokt_audience: bool = False
    rokt_audience_key: SecretStr = SecretStr("")
    rokt_audience_url: str | None = None
    rokt_deletion: bool = False
    rokt_holdout: str | None = None
    rockerbox_advertiser: SecretStr | None = None
    rockerbox_base_url: str | None = None


def read() -> Settings:
    """Return the environment's settings; a value that cannot be raises ConfigurationError naming its variable."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise ConfigurationError("KIT_" + "_".join(map(str, first["loc"])).upper(), first["msg"]) from None


def default_mode() -> Mode:
    """Return the mode of a destination that names none: `KIT_MODE`, else live."""
    text = os.environ.get("KIT_MODE", Mode.LIVE)
    try:
        return Mode(text)
    except ValueError:
        raise ConfigurationError("KIT_MODE", 'is neither "live" nor "shadow"') from None
