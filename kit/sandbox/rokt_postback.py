"""Rokt's postback on this machine, by contracts.md 6: a conversion by its click id alone, in the query of a GET."""

from kit.sandbox import checks
from kit.sandbox.checks import Rule, phrase, sorted_out
from kit.sandbox.record import Event, Received, Refusal, Ruling
from kit.sandbox.settings import Settings
from kit.sandbox.vendor import Vendor

_QUERY = (
    Rule("id", checks.text(1, 64), "is not 1 to 64 characters long", required=True),
    Rule("passbackconversiontrackingid", checks.text(32, 32), "is not 32 characters long", required=True),
    Rule("conversiontype", checks.text(1, 256), "is empty or too long", soft=True),
)
_KNOWN = frozenset(rule.field for rule in _QUERY)


class RoktPostback(Vendor):
    """`GET /api/conv?id=<account>&passbackconversiontrackingid=<click id>[&conversiontype=<type>]`.

    Only the answer to success is documented; what is refused is answered 400 in the same shape. No repeat is told.
    """

    name = "rokt_postback"
    paths = ("/api/conv",)

    def __init__(self, accounts: frozenset[str], settings: Settings) -> None:
        super().__init__(settings)
        self._accounts = accounts

    def read(self, received: Received) -> tuple[Event, ...]:
        return (dict(received.query),)

    def judge(self, received: Received, authorization: str) -> Ruling:
        if received.path != "/api/conv":
            return self._refuse(404, Refusal(field="path", message="is not /api/conv"))
        if received.method != "GET":
            return self._refuse(405, Refusal(field="method", message="is not GET"))
        event = dict(received.query)
        problems = [*checks.broken(_QUERY, event, event=0)]
        problems += [
            Refusal(field=name[:64], message="is not a parameter of a postback", event=0, soft=True)
            for name in sorted(event.keys() - _KNOWN)
        ]
        if "id" in event and event["id"] not in self._accounts:
            problems.append(Refusal(field="id", message="is not a known account", event=0))
        refused, warnings = sorted_out(problems, strict=self.strict)
        if refused:
            return self._refuse(400, *refused)
        return Ruling(status=200, body=self.trouble(200), events=(event,), taken=(0,), warnings=warnings)

    def trouble(self, status: int) -> object:
        return {"statusCode": status, "success": status < 300}

    def identifiers_of(self, event: Event) -> tuple[str, ...]:
        return tuple(name for name in ("passbackconversiontrackingid",) if event.get(name))

    def _refuse(self, status: int, *refused: Refusal) -> Ruling:
        words = "; ".join(f"{each.field} {each.message}" for each in refused)
        body = {"statusCode": status, "success": False, "message": words or phrase(status)}
        return Ruling(status=status, body=body, refused=refused)
