"""Rokt's Custom Audience Import API on this machine, v3 and api/1.0, by contracts.md 5 and 12."""

from collections.abc import Iterator
from hmac import compare_digest

from pydantic import JsonValue

from kit.sandbox import checks
from kit.sandbox.checks import Rule, phrase, sorted_out
from kit.sandbox.doors import opens
from kit.sandbox.record import Event, Received, Refusal, Ruling, parsed
from kit.sandbox.settings import Settings
from kit.sandbox.vendor import Vendor

MOST_CONTACTS = 1_000_000
DEFAULT_LIST = "AdvertiserDatabase"

_V3 = "/v3/import/suppression"
_V1 = "/api/1.0/import/suppression"
_AUTH_CHECK = "/v3/auth-check"

_FIELDS = (
    Rule("action", checks.one_of(("include", "exclude")), "is neither include nor exclude", required=True),
    Rule("list", checks.text(1, 256), "is not a string of 1 to 256 characters"),
    Rule("email", checks.text(0, 320), "is not a string"),
    Rule("emails", checks.is_list, "is not a list"),
    Rule("sha256", checks.text(0, 320), "is not a string"),
    Rule("sha256s", checks.is_list, "is not a list"),
)
_ACCOUNT = Rule("accountId", checks.text(1, 64), "is not 1 to 64 characters long", required=True)

#: contracts.md 5: exactly one of these is to be given.
_CONTACTS = {
    "email": (checks.is_email, "is not an address"),
    "emails": (checks.is_email, "is not an address"),
    "sha256": (checks.is_sha256, "is not a SHA-256 digest in hex, or is that of nothing"),
    "sha256s": (checks.is_sha256, "is not a SHA-256 digest in hex, or is that of nothing"),
}


class RoktAudience(Vendor):
    """`POST /v3/import/suppression` (Basic, accountId), `POST /api/1.0/import/suppression` (raw key, no accountId).

    `POST /v3/auth-check` says whether a key pair opens an account. Keeps every list as it stands after its includes and
    excludes. A second identifier key that is empty is taken with a warning, as Segment sends it (contracts.md 10.12).
    """

    name = "rokt_audience"
    paths = ("/v3/", "/api/1.0/")
    # A million digests.
    largest_body = 128 * 1024 * 1024

    def __init__(self, public: str, secret: str, key: str, accounts: frozenset[str], settings: Settings) -> None:
        super().__init__(settings)
        self._pair = (public, secret)
        self._key = key
        self._accounts = accounts
        self._lists: dict[str, set[str]] = {}

    @property
    def lists(self) -> dict[str, int]:
        """Return how many members each list has."""
        return {name: len(members) for name, members in self._lists.copy().items()}

    def members(self, name: str = DEFAULT_LIST) -> frozenset[str]:
        """Return the members of a list, as SHA-256 digests in lower case, however they were given."""
        return frozenset(self._lists.get(name, set()).copy())

    def clear(self) -> None:
        super().clear()
        self._lists.clear()

    def judge(self, received: Received, authorization: str) -> Ruling:
        """Refuse at the door (path, credential), then by the body."""
        if refused := self._at_the_door(received, authorization):
            return refused
        try:
            body = parsed(received.text)
        except ValueError as exc:
            return _refuse(400, Refusal(field="body", message=f"is not JSON: {exc}"))
        if not isinstance(body, dict):
            return _refuse(400, Refusal(field="body", message="is not an object"))
        if received.path != _V1 and self._is_foreign(body.get("accountId")):
            return _refuse(401, Refusal(field="accountId", message="is not open to this key pair"), authorized=False)
        return self._checked(body) if received.path == _AUTH_CHECK else self._imported(body, received.path)

    def trouble(self, status: int) -> object:
        return {} if status < 300 else {"message": phrase(status)}

    def identifiers_of(self, event: Event) -> tuple[str, ...]:
        return tuple(name for name in _CONTACTS if event.get(name))

    def took(self, event: Event) -> None:
        members = self._lists.setdefault(event.get("list", DEFAULT_LIST), set())
        named = next(name for name in _CONTACTS if event.get(name))
        given = event[named] if isinstance(event[named], list) else [event[named]]
        digests = {contact.lower() if named.startswith("sha256") else checks.digest_of(contact) for contact in given}
        if event["action"] == "include":
            members |= digests
        else:
            members -= digests

    def details(self) -> dict[str, JsonValue]:
        return {f"list {name}": members for name, members in self.lists.items()}

    def _is_foreign(self, account: object) -> bool:
        return isinstance(account, str) and account not in self._accounts

    def _checked(self, body: Event) -> Ruling:
        refused, warnings = sorted_out(checks.broken((_ACCOUNT,), body, event=0), strict=self.strict)
        return _refuse(400, *refused) if refused else Ruling(status=200, body={}, warnings=warnings, authorized=True)

    def _imported(self, body: Event, path: str) -> Ruling:
        rules = _FIELDS if path == _V1 else (_ACCOUNT, *_FIELDS)
        refused, warnings = sorted_out(_problems(body, rules), strict=self.strict)
        if refused:
            return _refuse(400, *refused, warnings=warnings)
        warnings += tuple(f"{name} is empty beside another identifier key" for name in _CONTACTS if _empty(body, name))
        return Ruling(status=201, body={}, events=(body,), taken=(0,), warnings=warnings, authorized=True)

    def _at_the_door(self, received: Received, authorization: str) -> Ruling | None:
        if received.path not in {_V3, _V1, _AUTH_CHECK}:
            return _refuse(404, Refusal(field="path", message=f"is not {_V3}"), authorized=None)
        if received.method != "POST":
            return _refuse(405, Refusal(field="method", message="is not POST"), authorized=None)
        if received.path == _V1:
            let_in = compare_digest(authorization.encode(), self._key.encode())
        else:
            let_in = opens(authorization, *self._pair)
        if not let_in:
            return _refuse(401, Refusal(field="Authorization", message="is not known"), authorized=False)
        return None


def _problems(body: Event, rules: tuple[Rule, ...]) -> Iterator[Refusal]:
    yield from checks.broken(rules, body, event=0)
    yield from checks.unknown(body, [rule.field for rule in rules], "is not a field of an import", event=0)
    given = [name for name in _CONTACTS if body.get(name)]
    if len(given) != 1:
        found = " and ".join(given) or "none"
        yield Refusal(field="contacts", message=f"are to be in one of {', '.join(_CONTACTS)}; found {found}", event=0)
        return
    named = given[0]
    contacts = body[named] if isinstance(body[named], list) else [body[named]]
    if len(contacts) > MOST_CONTACTS:
        yield Refusal(field=named, message=f"holds more than {MOST_CONTACTS} contacts", event=0)
        return
    holds, words = _CONTACTS[named]
    place = next((place for place, contact in enumerate(contacts) if not holds(contact)), None)
    if place is not None:
        yield Refusal(field=f"{named}[{place}]" if named.endswith("s") else named, message=words, event=0)


def _empty(body: Event, name: str) -> bool:
    return name in body and not body[name]


def _refuse(status: int, *refused: Refusal, warnings: tuple[str, ...] = (), authorized: bool | None = True) -> Ruling:
    words = "; ".join(f"{each.field} {each.message}" for each in refused[:20])
    return Ruling(status=status, body={"message": words}, refused=refused, warnings=warnings, authorized=authorized)
