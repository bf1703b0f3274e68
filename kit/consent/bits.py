"""Bits: a base64url string of the IAB's frameworks, read from its first bit on."""

from binascii import Error, a2b_base64

# "+" and "/" are no letters of the URL-safe alphabet: they become what the decoder refuses.
_URL_SAFE = str.maketrans("-_+/", "+/!!")
#: A Fibonacci number of this many bits is past 10,000, and no section has such an id.
_LONGEST_FIBONACCI = 20


class UnreadableError(ValueError):
    """The string is not what it should be. Never leaves this room."""


class Bits:
    """One segment. Raises UnreadableError for other letters than base64url's, and for reading past the end."""

    __slots__ = ("_at", "_bits")

    def __init__(self, text: str) -> None:
        text = text.rstrip("=")
        try:
            # Filled up with zeros: the encoders pad to 6, 8 or 24 bits.
            whole = a2b_base64(text.translate(_URL_SAFE) + "A" * (-len(text) % 4), strict_mode=True)
        except (Error, ValueError):
            raise UnreadableError from None
        self._bits = format(int.from_bytes(whole), f"0{8 * len(whole)}b")[: 6 * len(text)]
        self._at = 0

    def row(self, width: int) -> str:
        """Return the next bits as they stand, such as "0110"."""
        start, self._at = self._at, self._at + width
        if self._at > len(self._bits):
            raise UnreadableError
        return self._bits[start : self._at]

    def number(self, width: int) -> int:
        return int(self.row(width), 2)

    def flag(self) -> bool:
        return self.row(1) == "1"

    def fibonacci(self) -> int:
        """Return an integer in Fibonacci coding: it ends with two ones in a row, of which the last adds nothing."""
        total, (value, following) = 0, (1, 2)
        last = False
        for _ in range(_LONGEST_FIBONACCI):
            one = self.flag()
            if one and last:
                return total
            total += value if one else 0
            value, following, last = following, value + following, one
        raise UnreadableError
