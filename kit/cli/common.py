"""What every command needs: the app, its options, the shop's Kit or its store, and how things are printed."""

import importlib
import json
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

from kit import settings
from kit.errors import ConfigurationError, KitError
from kit.kit import Kit
from kit.store import Store
from kit.store.writer import Verb

try:
    import typer
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text
except ImportError:  # pragma: no cover - shown where the extra is missing
    sys.exit("the kit command needs its extra: pip install 'attribution-kit[cli]'")

_Argument = TypeVar("_Argument")
_Result = TypeVar("_Result")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The `kit` command, for people; with `--json` for programs.",
)
#: What shops and vendors wrote is text, not the terminal's markup; where a long line breaks is the terminal's affair.
console = Console(markup=False, emoji=False, soft_wrap=True)

AppOption = Annotated[
    str | None,
    typer.Option("--app", envvar="KIT_APP", help="Where your Kit is, as module:name; else KIT_* variables make one."),
]
StoreOption = Annotated[
    str | None, typer.Option("--store", help="The store's URL; else KIT_STORE, else sqlite:///kit.db.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

TIMES = 'a time such as 2026-01-31T18:00Z, or "2h" or "3d" for so long ago; without a zone it is UTC'
_CONTROLS = re.compile("[\x7f-\x9f]")
#: What Python makes of bytes that are not UTF-8.
_SURROGATES = re.compile("[\ud800-\udfff]")
_UNITS = {"min": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


def main() -> None:
    """Run the command; an error that we foresaw is one line, not a traceback."""
    for place, argument in enumerate(sys.argv[1:], start=1):
        if _SURROGATES.search(argument):
            fail(f"argument {place} is not in UTF-8")
    try:
        app()
    except KitError as error:
        fail(str(error))


def kit_of(app: str | None) -> Kit:
    if app is None:
        return Kit.from_env()
    module, _, name = app.partition(":")
    sys.path.insert(0, "")
    try:
        found = getattr(importlib.import_module(module), name or "attribution")
    except Exception as error:
        reason = f"cannot be loaded ({type(error).__name__}: {error}); write module:name, such as shop:attribution"
        raise ConfigurationError("--app", reason) from error
    if not isinstance(found, Kit):
        raise ConfigurationError("--app", f"is a {type(found).__name__}, not a Kit")
    return found


def moment(option: str, text: str | None, *, now: datetime) -> datetime | None:
    """Return the time that an option names, in UTC."""
    if text is None:
        return None
    ago = re.fullmatch(r"([0-9]{1,4})(min|h|d)", text)
    if ago is not None:
        return now - int(ago[1]) * _UNITS[ago[2]]
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        fail(f"{option} is no time; write {TIMES}")


def written(url: str | None, verb: Verb[_Argument, _Result], argument: _Argument) -> _Result:
    opened = store_of(url)
    try:
        return opened.write_sync(verb, argument)
    finally:
        opened.close()


def store_of(url: str | None) -> Store:
    """Return the store to look at; looking must not make one."""
    found = Store(url or settings.read().store)
    if found.url.get_backend_name() == "sqlite":
        try:
            Path(found.url.database or "").stat()
        except FileNotFoundError:
            fail(f"there is no store at {found.url.database}; name it with --store or KIT_STORE")
        except OSError as error:
            fail(f"the store at {found.url.database} cannot be looked at: {error.strerror}")
    return found


def age(moment: datetime | None) -> str:
    if moment is None:
        return ""
    seconds = int((datetime.now(UTC) - moment).total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def span(duration: timedelta) -> str:
    """Return so long in words, in the largest unit of which there is a whole one: 3 days."""
    for name, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        number = int(duration.total_seconds()) // size
        if number:
            return counted(number, name)
    return "less than a minute"


def counted(number: int, one: str, several: str | None = None) -> str:
    """Return the number with the words for one or for several; without these, with an s."""
    return f"{number:,} {one if number == 1 else several or f'{one}s'}"


def clock(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def print_table(*headers: str, rows: Iterable[Sequence[str | Text]]) -> None:
    """Print a table that is as wide as the terminal. What is longer is folded: an id that is cut names nothing."""
    table = Table(*(Column(header, overflow="fold") for header in headers))
    for row in rows:
        table.add_row(*row)
    console.print(table, soft_wrap=False)


def print_json(value: object) -> None:
    # What browsers and vendors wrote may hold what a terminal obeys.
    print(_CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, indent=2, ensure_ascii=False)))


def fail(message: str) -> NoReturn:
    Console(stderr=True, markup=False, emoji=False, soft_wrap=True).print(message, style="red", highlight=False)
    raise SystemExit(1)
