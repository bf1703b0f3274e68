"""Money: exact decimals in a known currency. A float is refused, because 0.1 + 0.2 is nobody's order total."""

from decimal import Decimal

from kit.errors import InvalidInput

#: Minor-unit digits of the ISO 4217 currencies (list of 2024-06); all others in the list have two.
_NO_DIGITS = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split()
_THREE_DIGITS = "BHD IQD JOD KWD LYD OMR TND".split()
_TWO_DIGITS = (
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP "
    "CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR "
    "JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN "
    "NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP "
    "SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD YER ZAR ZMW ZWG"
).split()
MINOR_DIGITS: dict[str, int] = {
    **dict.fromkeys(_TWO_DIGITS, 2),
    **dict.fromkeys(_NO_DIGITS, 0),
    **dict.fromkeys(_THREE_DIGITS, 3),
}

#: Above any real order, below where a vendor's number type would lose digits.
LARGEST = Decimal("1e12")
LONGEST = 40


def amount(field: str, value: object) -> Decimal:
    """Return `value` as an exact Decimal.

    Takes Decimal, int or a decimal string in plain notation; a float, NaN, infinity, scientific notation or more
    than 1e12 raises InvalidInput.
    """
    if isinstance(value, (bool, float)):
        raise InvalidInput(field, f'is a {type(value).__name__}; pass Decimal("12.50") or the string "12.50"')
    if isinstance(value, str) and not value.strip().lstrip("+-").replace(".", "", 1).isdecimal():
        raise InvalidInput(field, 'is not a plain decimal number; pass Decimal("12.50") or "12.50"')
    if not isinstance(value, (Decimal, int, str)):
        raise InvalidInput(field, f'is a {type(value).__name__}; pass Decimal("12.50") or the string "12.50"')
    if isinstance(value, str) and len(value) > LONGEST:
        raise InvalidInput(field, f"is longer than {LONGEST} characters")
    number = Decimal(value)
    if not number.is_finite():
        raise InvalidInput(field, "is not a finite number")
    # Looked at before any arithmetic: an exponent of three million is a small object and a very long text.
    if number.adjusted() < -LONGEST or len(number.as_tuple().digits) > LONGEST:
        raise InvalidInput(field, f"has more than {LONGEST} digits")
    if number.adjusted() >= LARGEST.adjusted() and number:
        raise InvalidInput(field, "is 1,000,000,000,000 or more; amounts are in the currency's major unit")
    return number


def currency(field: str, value: object) -> str:
    """Return the ISO 4217 code in capitals; an unknown one raises InvalidInput."""
    code = value.strip().upper() if isinstance(value, str) else ""
    if code not in MINOR_DIGITS:
        raise InvalidInput(field, "is not an ISO 4217 code such as USD or EUR")
    return code


def plain(number: Decimal) -> str:
    """Return the number as vendors want it: the caller's own digits, never scientific notation."""
    return f"{number:f}"
