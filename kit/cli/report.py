"""The command that reports conversions from a file: report."""

import json
import sys
import uuid
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import IO, Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import Progress

from kit.cli.common import AppOption, JsonOption, app, console, fail, kit_of, print_json
from kit.destinations.base import masked
from kit.errors import InvalidInput, StoreUnavailable
from kit.kit import Kit
from kit.model import Conversion, Reported

_NAMESPACE = uuid.UUID("b1a2f0d4-7c53-5a6e-8a0e-3f9d1c2b4e57")
#: How many lines of each kind are listed; all are counted.
_LISTED = 1_000


class Answer(StrEnum):
    YES = "yes"
    NO = "no"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a line: the field and the rule, never a value."""

    field: str
    reason: str


@dataclass(slots=True)
class Tally:
    """What became of a file's lines."""

    new: int = 0
    known: int = 0
    conflicts: list[dict[str, object]] = field(default_factory=list)
    bad_lines: int = 0
    faults: list[dict[str, object]] = field(default_factory=list)

    def took(self, number: int, reported: Reported) -> Iterator[str]:
        """Count a line that was reported; yield what is to be said of it."""
        self.new += reported.new
        self.known += not reported.new
        if reported.conflict:
            _list(self.conflicts, {"line": number, "fields": list(reported.conflict)})
            yield f"line {number}: reported before with another {', '.join(reported.conflict)}; the first report stands"

    def refused(self, number: int, faults: list[Fault]) -> Iterator[str]:
        """Count a line that cannot be a conversion; yield why."""
        self.bad_lines += 1
        for each in faults:
            _list(self.faults, {"line": number, "field": each.field, "reason": each.reason})
            yield f"line {number}: {each.field}: {each.reason}"


@app.command()
def report(
    file: Annotated[str, typer.Argument(help="A Conversion as a JSON object a line; - reads standard input.")],
    consent: Annotated[Answer | None, typer.Option(help="The shop's own word for all of them.")] = None,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Report conversions from a file, one JSON object a line. Exit 1 if a line was refused; the others are reported.

    The same file again reports nothing twice: a line is known by its order_id or event_id, else by all that it says.
    """
    kit, tally = kit_of(app), Tally()
    said = None if consent is None else consent is Answer.YES
    number = 0
    try:
        with _opened(file) as lines, _progress(quiet=as_json) as progress:
            bar = progress.add_task("reporting", total=_size(file))
            for number, line in enumerate(lines, start=1):
                for remark in _reported(kit, number, line, said, tally):
                    progress.console.print(remark, markup=False, emoji=False, highlight=False, soft_wrap=True)
                progress.advance(bar, len(line))
    except StoreUnavailable as error:
        fail(f"line {number}: {error}; the lines before it are done, so run the same again")
    finally:
        kit.store.close()
    _show(tally, as_json=as_json)
    raise typer.Exit(tally.bad_lines > 0)


def _reported(kit: Kit, number: int, line: bytes, consent: bool | None, tally: Tally) -> Iterator[str]:
    """Report one line, unless it is empty; yield what is to be said of it."""
    if not line.strip():
        return
    read = _read(line)
    if isinstance(read, Conversion):
        yield from tally.took(number, kit.sync.report(read, consent=consent))
    else:
        yield from tally.refused(number, read)


def _read(line: bytes) -> Conversion | list[Fault]:
    """Return the line's conversion, with a key by which the same line again is known, or what is wrong with it."""
    try:
        # A number in JSON is a text of digits: read as Decimal it stays exactly that.
        said = json.loads(line, parse_float=Decimal)
    except (ValueError, RecursionError):
        return [Fault("line", "is not JSON in UTF-8")]
    if not isinstance(said, dict):
        return [Fault("line", "is not a JSON object")]
    try:
        conversion = Conversion.model_validate(said)
    except ValidationError as error:
        return list(_faults(error))
    if conversion.event_id or conversion.order_id is not None:
        return conversion
    if conversion.time is None:
        return [Fault("time", "is missing; without order_id and event_id it tells a line from its repeat")]
    told = conversion.model_dump_json(exclude_unset=True)
    return conversion.model_copy(update={"event_id": str(uuid.uuid5(_NAMESPACE, told))})


def _faults(error: ValidationError) -> Iterator[Fault]:
    for each in error.errors(include_input=False, include_url=False):
        cause = each.get("ctx", {}).get("error")
        if isinstance(cause, InvalidInput):
            yield Fault(masked(cause.field), cause.reason)
            continue
        # A key that is none of ours may be somebody's data.
        name = masked(".".join(map(str, each["loc"])))
        yield Fault(name, "is no field of a Conversion" if each["type"] == "extra_forbidden" else each["msg"])


def _opened(file: str) -> nullcontext[IO[bytes]] | IO[bytes]:
    if file == "-":
        return nullcontext(sys.stdin.buffer)
    try:
        return Path(file).open("rb")
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}")


def _size(file: str) -> int | None:
    return None if file == "-" else Path(file).stat().st_size


def _progress(*, quiet: bool) -> Progress:
    screen = Console(stderr=True)
    return Progress(console=screen, transient=True, disable=quiet or not screen.is_terminal)


def _list(listed: list[dict[str, object]], one: dict[str, object]) -> None:
    if len(listed) < _LISTED:
        listed.append(one)


def _show(tally: Tally, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "new": tally.new,
                "known": tally.known,
                "conflicts": tally.conflicts,
                "refused": tally.bad_lines,
                "faults": tally.faults,
            }
        )
        return
    console.print(f"{tally.new} reported" if tally.new or not tally.known else "nothing new was reported")
    if tally.known:
        console.print(f"{tally.known} known before")
    if tally.bad_lines:
        console.print(f"{tally.bad_lines} refused", style="red")
