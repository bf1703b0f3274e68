"""Writes TC strings and sections for tests, bit by bit after the specification."""

from collections.abc import Collection, Iterable, Mapping, Sequence

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def letters(bits: str) -> str:
    """Return a row of bits as base64url without padding."""
    bits += "0" * (-len(bits) % 6)
    return "".join(_LETTERS[int(bits[at : at + 6], 2)] for at in range(0, len(bits), 6))


def bits_of(text: str) -> str:
    return "".join(f"{_LETTERS.index(letter):06b}" for letter in text)


def vendor_field(vendors: Collection[int]) -> str:
    last = max(vendors, default=0)
    return f"{last:016b}0" + "".join("1" if vendor in vendors else "0" for vendor in range(1, last + 1))


def vendor_ranges(ranges: Sequence[tuple[int, int]]) -> str:
    return f"{max((last for _, last in ranges), default=0):016b}1" + range_entries(ranges)


def range_entries(ranges: Sequence[tuple[int, int]]) -> str:
    return f"{len(ranges):012b}" + "".join(
        f"0{first:016b}" if first == last else f"1{first:016b}{last:016b}" for first, last in ranges
    )


def tc_string(
    *,
    purposes: Collection[int] = (),
    vendors: str = "",
    disclosed: str | None = None,
    restrictions: Iterable[tuple[int, int, Sequence[tuple[int, int]]]] = (),
) -> str:
    """Return a TC string. `vendors` and `disclosed` are what vendor_field or vendor_ranges return."""
    rows = [f"{purpose:06b}{kind:02b}{range_entries(ranges)}" for purpose, kind, ranges in restrictions]
    core = "".join(
        [
            f"{2:06b}" + "0" * 146,
            "".join("1" if purpose in purposes else "0" for purpose in range(1, 25)),
            "0" * 37,
            vendors or vendor_field(()),
            vendor_field(()),
            f"{len(rows):012b}" + "".join(rows),
        ]
    )
    return letters(core) + ("" if disclosed is None else "." + letters("001" + disclosed))


def fibonacci(number: int) -> str:
    """Return an integer of at least 1 in Fibonacci coding."""
    steps = [1, 2]
    while steps[-1] <= number:
        steps.append(steps[-1] + steps[-2])
    code = ""
    for step in reversed(steps[:-1]):
        code = ("1" if step <= number else "0") + code
        number -= step if step <= number else 0
    return code + "1"


def gpp_string(sections: Mapping[int, str]) -> str:
    """Return a GPP string of these sections, each named by itself in the header."""
    numbers = sorted(sections)
    steps = [number - before for before, number in zip([0, *numbers], numbers, strict=False)]
    header = f"{3:06b}{1:06b}{len(numbers):012b}" + "".join("0" + fibonacci(step) for step in steps)
    return "~".join([letters(header), *(sections[number] for number in numbers)])
