"""Read request bodies strictly: what two readers could read in two ways is refused at the door."""

import json
import unicodedata
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NoReturn

from django.conf import settings
from rest_framework.exceptions import APIException
from rest_framework.parsers import BaseParser
from rest_framework.renderers import JSONRenderer

from receipts.canonical import MAX_SAFE_INTEGER, nesting

MAX_DEPTH: Final = 16
_FAR_TOO_DEEP: Final = 100  # up to here the place is named; beyond, the parser itself would be at risk
_NUMBER_LENGTH: Final = 40
_EXPONENT: Final = 30
_BOM: Final = b"\xef\xbb\xbf"


class BadBody(APIException):
    """The body is not JSON as we read it: `rule`, broken at `where`."""

    status_code = 400

    def __init__(self, where: str, rule: str) -> None:
        super().__init__(f"{where}: {rule}")
        self.field = where
        self.value = None
        self.rule = rule


class BodyTooLarge(APIException):
    """The body has more bytes than are read."""

    status_code = 413

    def __init__(self, limit: int) -> None:
        super().__init__(f"A request body has at most {limit} bytes.")
        self.limit = limit


class BodyEncoded(APIException):
    """The body is compressed or in another character set."""

    status_code = 415


class StrictJSONParser(BaseParser):
    """JSON without duplicate keys, NaN, byte order mark, text that isn't NFC, or endless depth.

    Decimals are read as `Decimal`: `7.5` stays 7.5 and never becomes a binary fraction.
    """

    media_type = "application/json"
    renderer_class = JSONRenderer

    def parse(
        self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Read one JSON object. Raises: BadBody, BodyTooLarge, BodyEncoded."""
        # `stream` may be a plain buffer, where something read the body before; the request knows the headers.
        request = (parser_context or {})["request"]._request
        meta = request.META
        if meta.get("HTTP_CONTENT_ENCODING", "identity").lower() != "identity":
            raise BodyEncoded("Compressed bodies are not read; send plain JSON.")
        if (request.content_params or {}).get("charset", "utf-8").lower() not in ("utf-8", "utf8"):
            raise BodyEncoded("JSON is UTF-8.")
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        if int(meta.get("CONTENT_LENGTH") or 0) > limit:
            raise BodyTooLarge(limit)
        data = stream.read(limit + 1)
        if len(data) > limit:
            raise BodyTooLarge(limit)
        value = read_json(data)
        if not isinstance(value, dict):
            raise BadBody("$", "must be a JSON object")
        return value


def read_json(data: bytes) -> Any:
    """Read JSON from outside, decimals as `Decimal`. Raises: BadBody."""
    if data.startswith(_BOM):
        raise BadBody("$", "must not start with a byte order mark")
    try:
        text = data.decode("utf-8")
        if nesting(text) > _FAR_TOO_DEEP:
            raise BadBody("$", f"must not be nested deeper than {MAX_DEPTH} levels")
        value = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_float=_decimal,
            parse_int=_integer,
            parse_constant=_no_constant,
        )
    except UnicodeDecodeError as error:
        raise BadBody("$", f"must be UTF-8, which ends at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise BadBody("$", f"must be JSON, which ends at character {error.pos}") from None
    _check(value, "$", 0)
    return value


def plain(value: Any) -> Any:
    """Write decimals as their shortest text, so that a body can be hashed: 7.5 and 7.50 are one content."""
    if isinstance(value, Decimal):
        text = f"{value.normalize():f}"
        return "0" if text == "-0" else text
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise BadBody(next(key for key in keys if keys.count(key) > 1)[:80], "must stand once in its object")
    return found


def _decimal(text: str) -> Decimal:
    # The bounds come first: 1e999999999 would be spelt out digit by digit when it is hashed.
    if len(text) <= _NUMBER_LENGTH:
        try:
            number = Decimal(text)
        except InvalidOperation:
            raise BadBody(text, "must be a number of reasonable size") from None
        if abs(number.adjusted()) <= _EXPONENT:
            return number
    raise BadBody(text[:80], "must be a number of reasonable size")


def _integer(text: str) -> int:
    # The length goes first: int() of a million digits would take seconds.
    if len(text) > 17 or abs(int(text)) > MAX_SAFE_INTEGER:
        raise BadBody(text[:80], "must be sent as text: integers beyond 2^53-1 are read differently by others")
    return int(text)


def _no_constant(text: str) -> NoReturn:
    raise BadBody(text, "is no JSON value")


def _check(value: Any, where: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise BadBody(where[:80], f"must not be nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, str):
        _check_text(value, where)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_text(key, where)
            _check(item, f"{where}.{key[:40]}" if depth else key[:40], depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check(item, f"{where}[{index}]", depth + 1)


def _check_text(text: str, where: str) -> None:
    if text.isascii():
        return
    if any(0xD800 <= ord(character) <= 0xDFFF for character in text):
        raise BadBody(where[:80], "must not hold half of a surrogate pair")
    if not unicodedata.is_normalized("NFC", text):
        raise BadBody(where[:80], "must be in Unicode normal form C")
