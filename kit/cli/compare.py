"""`kit compare`: one stored order as each of a vendor's surfaces would be told it, side by side. Nothing is sent."""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text
from sqlalchemy import Connection, select

from kit import settings
from kit.cli.common import AppOption, JsonOption, StoreOption, app, console, fail, kit_of, print_json, store_of
from kit.configuration import destinations_of
from kit.destinations import Destination, Rokt
from kit.destinations.base import Json, Skip, first_sending, masked, skip_of
from kit.model import Dispatch, Mode, utc_now
from kit.store.rows import conversion_of, identifiers_of, moment
from kit.store.tables import events

compare = typer.Typer(no_args_is_help=True, help="One order as each surface of a vendor would be told it.")
app.add_typer(compare, name="compare")

#: Fields by which nobody is known, shown as they are.
_OF_THE_EVENT = frozenset(
    "clientEventId eventType eventTime transactionid confirmationref amount currency conversiontype margin quantity "
    "productname sku majorcat paymenttype shippingtype customertype environment custom_event_type audience_name "
    "status".split()
)
#: Fields of a person that a mask does not know by their look.
_OF_A_PERSON = frozenset(
    "passbackconversiontrackingid customerid firstname lastname mobile title gender dob age city state zipcode "
    "address1 address2 unitno billingaddress1 billingaddress2 billingzipcode ios_advertising_id "
    "android_advertising_id".split()
)
#: Where the Conversions API says it under another name than the Event API.
_SAME = {
    "other": "emailsha256",
    "other2": "passbackconversiontrackingid",
    "ip": "ipaddress",
    "zip": "zipcode",
    "source_message_id": "clientEventId",
    "event_name": "eventType",
    "timestamp_unixtime_ms": "eventTime",
}

#: What the names of fields and the lines between the columns take of the terminal's width.
_NAME_WIDTH, _LINES = 17, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """What one surface would be told: the request's method and address, why it would not be, and each field."""

    request: str
    skip: Skip | None
    fields: Mapping[str, str]


@compare.command(name="rokt")
def compare_rokt(
    order: Annotated[str, typer.Argument(help="The order's id.")],
    destination: Annotated[str | None, typer.Option(help="Whose settings, where Rokt is there twice.")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Show what is known of the person, too.")] = False,
    app: AppOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what Rokt would be told of an order by v1, v2, the Conversions API and the postback. Needs no keys."""
    # What is only shown needs no token.
    os.environ["KIT_MODE"] = Mode.SHADOW
    attribution = kit_of(app) if app is not None else None
    configured = attribution.destinations if attribution is not None else destinations_of(settings.read())
    surfaces = _surfaces(_rokt_of(configured, destination))
    opened = attribution.store if attribution is not None and store is None else store_of(store)
    found = opened.read_sync(lambda connection: _dispatches(connection, order))
    if not found:
        fail(f"no event with the order id {order!r} was reported")
    now = utc_now()
    rendered = [
        (told, {name: _rendering(name, surface, told, now=now, clear=clear) for name, surface in surfaces.items()})
        for told in found
    ]
    if as_json:
        print_json([_json(told, each) for told, each in rendered])
        return
    for told, each in rendered:
        console.print(Text.assemble((told.conversion.name, "bold"), f" {order}   event {told.event_id}"))
        console.print(_table(each), soft_wrap=False)


def _rokt_of(configured: Sequence[Destination], name: str | None) -> Rokt:
    found = [one for one in configured if isinstance(one, Rokt) and name in {None, one.name}]
    if not found and name is None:
        fail("no Rokt is configured; name the app with --app, or set KIT_ROKT_ACCOUNT or KIT_ROKT_API_KEY")
    if len(found) != 1:
        known = ", ".join(one.name for one in configured if isinstance(one, Rokt)) or "none"
        fail(f"--destination names one Rokt; known are {known}")
    return found[0]


#: What only the Conversions API has, as the others must have it.
_DEFAULTS_OF_CONVERSIONS: dict[str, Any] = {
    "environment": "production",
    "audiences": {},
    "pod": "us2",
    "amount_as": "string",
}


def _surfaces(rokt: Rokt) -> dict[str, Rokt]:
    """Return a shadow of this destination for each surface, at the vendor's own address."""
    none = dict.fromkeys(("public_key", "secret_key", "app_id", "app_secret", "api_key", "api_secret", "base_url"), "")
    here: dict[str, Any] = {
        **none,
        "mode": Mode.SHADOW,
        "account": rokt.account or "account",
        **_DEFAULTS_OF_CONVERSIONS,
        "postback": False,
    }
    conversions = {"api_key": "key", **{name: getattr(rokt, name) for name in _DEFAULTS_OF_CONVERSIONS}}
    return {
        "v1": dataclasses.replace(rokt, **{**here, "app_id": "app"}),
        "v2": dataclasses.replace(rokt, **here),
        "conversions": dataclasses.replace(rokt, **{**here, **conversions}),
        "postback": dataclasses.replace(rokt, **{**here, "postback": True, "postback_url": "https://apps.rokt.com"}),
    }


def _dispatches(connection: Connection, order: str) -> list[Dispatch]:
    rows = connection.execute(select(events).where(events.c.order_id == order).order_by(events.c.id))
    return [
        Dispatch(
            event_id=row.event_id,
            at=moment(row.at),
            conversion=conversion_of(row.conversion),
            identifiers=identifiers_of(row.identifiers),
        )
        for row in rows
    ]


def _rendering(name: str, surface: Rokt, told: Dispatch, *, now: datetime, clear: bool) -> Rendering:
    seen = surface.within_window(told)
    payload = surface.payload(seen, now=now)
    request = surface.build([first_sending(surface, seen, now=now)])
    if name == "postback" and request.method != "GET":
        skip = Skip("not this way", "it takes a conversion with a click id of 32 characters and no e-mail")
        return Rendering(request="", skip=skip, fields={})
    fields: dict[str, str] = {}
    for field, text in _fields(payload):
        # A membership and a conversion say some of it twice, and not the same.
        fields[field] = text if fields.get(field, text) == text else f"{fields[field]}, {text}"
    return Rendering(
        request=f"{request.method} {request.url.host}{request.url.path}",
        skip=skip_of(surface, seen, told, now=now),
        fields=fields if clear else {field: _shown(field, text) for field, text in fields.items()},
    )


def _fields(value: Json, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield each field of a payload, under the Event API's name for it."""
    if isinstance(value, Mapping):
        if value.keys() == {"name", "value"}:
            yield str(value["name"]), str(value["value"])
        else:
            for key, inner in value.items():
                yield from _fields(inner, _SAME.get(key, key))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for inner in value:
            yield from _fields(inner, name)
    else:
        yield name, str(value)


def _shown(field: str, text: str) -> str:
    """Return the value without what tells who it is about."""
    if field in _OF_THE_EVENT:
        return text
    return "•••" if field in _OF_A_PERSON else masked(text)


def _table(rendered: Mapping[str, Rendering]) -> Table:
    table = Table("field", *rendered)
    names, *values = table.columns
    names.max_width, names.overflow = _NAME_WIDTH, "fold"
    for column in values:
        column.max_width = (console.width - _NAME_WIDTH - _LINES) // len(values)
        column.overflow = "fold"
    each = rendered.values()
    table.add_row("request", *(one.request for one in each), end_section=True)
    table.add_row("check", *(_verdict(one.skip) for one in each), end_section=True)
    for field in dict.fromkeys(field for one in each for field in one.fields):
        table.add_row(field, *(one.fields.get(field, "") for one in each))
    return table


def _verdict(skip: Skip | None) -> Text:
    if skip is None:
        return Text("good", style="green")
    return Text.assemble((skip.code, "yellow"), f": {skip.detail}")


def _json(told: Dispatch, rendered: Mapping[str, Rendering]) -> dict[str, object]:
    return {
        "event_id": told.event_id,
        "name": told.conversion.name,
        "surfaces": {
            name: {
                "request": one.request or None,
                "skip": None if one.skip is None else {"code": one.skip.code, "detail": one.skip.detail},
                "fields": one.fields,
            }
            for name, one in rendered.items()
        },
    }
