"""One request to an OpenAI-compatible endpoint, and what its answer means.

aiohttp rather than threads: a hundred requests wait in one thread, a time limit holds for a whole
request (sockets' own limits start anew at each byte), and all can be dropped at once.
"""

import asyncio
import datetime
import email.utils
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp

from rsvl_jax.chat.access import Access

_LONGEST = 4 << 20  # bytes of an answer
_AGAIN = (408, 409, 425, 429)
_HOPELESS = (401, 402, 403, 404)
_NO_MONEY = ("insufficient_quota", "billing_hard_limit_reached")
_LENGTHS = ("max_tokens", "max_completion_tokens")


class Failure(Exception):
    """A request without an answer.

    Attributes:
      reason: a short fixed phrase.
      detail: what the server said, without the key.
      again: whether to ask again; after: seconds the server wants to be left alone for.
      hopeless: whether every other request would fail alike.
      paid: whether it may have been charged for.
    """

    def __init__(
        self,
        reason: str,
        detail: str = "",
        *,
        again: bool = False,
        after: float | None = None,
        hopeless: bool = False,
        paid: bool = False,
    ):
        super().__init__(reason)
        self.reason, self.detail = reason, " ".join(detail.split())[:300]
        self.again, self.after, self.hopeless, self.paid = again, after, hopeless, paid


@dataclass(frozen=True)
class Reply:
    """What the model said. tokens_in, tokens_out: as the server counts, None if it does not.

    cut: it was stopped at the largest number of tokens; refusal: why it would not answer, or "".
    """

    content: str
    tokens_in: int | None = None
    tokens_out: int | None = None
    cut: bool = False
    refusal: str = ""


@dataclass
class Endpoint:
    """Asks for chat completions; a context manager.

    timeout: seconds for a whole request; max_tokens: of an answer; extra: further fields of the
    request, such as {"temperature": 0}; schema: of answers in JSON, None for answers in words.
    """

    access: Access
    in_flight: int
    timeout: float
    max_tokens: int
    extra: Mapping[str, Any] = field(default_factory=dict)
    schema: Mapping[str, Any] | None = None
    _format: int = 0
    _length: int = 0
    _proxy: str | None = None
    _session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # Not by aiohttp's trust_env: it would read ~/.netrc at each request, and fail where that
        # knows the host.
        self._proxy = self.access.proxy
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.in_flight),
            timeout=aiohttp.ClientTimeout(total=self.timeout),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def ask(self, messages: list[dict[str, Any]]) -> Reply:
        """Sends a request. Raises Failure, of which only some are worth another try."""
        while True:
            chosen = self._format, self._length
            status, headers, text = await self._post(self._body(messages))
            # Others in flight may have found out meanwhile what this server refuses.
            if status not in (400, 422) or not self._adapt(text, *chosen):
                return self._read(status, headers, text)

    def _body(self, messages: list[dict[str, Any]]) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self.access.model, "messages": messages}
        body[_LENGTHS[self._length]] = self.max_tokens
        if (wanted := self._formats[self._format]) is not None:
            body["response_format"] = wanted
        return body | dict(self.extra)

    @property
    def _formats(self) -> tuple[Mapping[str, Any] | None, ...]:
        """What is asked for first, and what a server that refuses it is asked for instead."""
        if self.schema is None:
            return (None,)
        strict = {"name": "answer", "strict": True, "schema": self.schema}
        return {"type": "json_schema", "json_schema": strict}, {"type": "json_object"}, None

    async def _post(self, body: dict[str, Any]) -> tuple[int, Mapping[str, str], str]:
        assert self._session is not None
        try:
            async with self._session.post(
                self.access.chat,
                json=body,
                headers=self.access.headers,
                proxy=self._proxy,
                allow_redirects=False,
            ) as response:
                data = bytearray()
                async for chunk in response.content.iter_chunked(1 << 16):
                    data += chunk
                    if len(data) > _LONGEST:
                        raise Failure("answer is too long", paid=True)
                text = self.access.hide(data.decode("utf-8", "replace"))
                return response.status, response.headers, text
        except TimeoutError as error:
            detail = f"none within {self.timeout:g} s"
            raise Failure("no answer in time", detail, again=True, paid=True) from error
        except aiohttp.ClientConnectorError as error:
            raise Failure("cannot connect", self.access.hide(str(error)), again=True) from error
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            detail = self.access.hide(f"{type(error).__name__}: {error}")
            raise Failure("connection was lost", detail, again=True, paid=True) from error

    def _adapt(self, text: str, form: int, length: int) -> bool:
        """Whether the next request will leave out what the server refused in this one."""
        if (form, length) != (self._format, self._length):
            return True
        if "max_completion_tokens" in text and length == 0:
            self._length = 1
            return True
        if form + 1 < len(self._formats) and any(w in text for w in ("response_format", "json_")):
            self._format += 1
            return True
        return False

    def _read(self, status: int, headers: Mapping[str, str], text: str) -> Reply:
        if status == 200:
            return _reply(text)
        said = f"HTTP {status}: {_message(text)}"
        if 300 <= status < 400:
            where = self.access.hide(headers.get("Location", "?"))
            raise Failure("moved", f"to {where}: give that address", hopeless=True)
        if status in _HOPELESS or any(word in text for word in _NO_MONEY):
            raise Failure("refused", said, hopeless=True)
        if status in _AGAIN or status >= 500:
            reason = "too many requests" if status == 429 else "server error"
            raise Failure(reason, said, again=True, after=_retry_after(headers))
        raise Failure("request was refused", said)


def _reply(text: str) -> Reply:
    try:
        answer = json.loads(text)
        if answer.get("error"):
            raise Failure("server error", _message(text), again=True)
        choice = answer["choices"][0]
        message = choice["message"]
        usage = answer.get("usage") or {}
        return Reply(
            content=_content(message.get("content")),
            tokens_in=_count(usage.get("prompt_tokens")),
            tokens_out=_count(usage.get("completion_tokens")),
            cut=choice.get("finish_reason") == "length",
            refusal=_refusal(choice, message),
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise Failure("answer is no chat completion", text, again=True, paid=True) from error


def _content(value: Any) -> str:
    if isinstance(value, list):
        return "".join(str(part.get("text", "")) for part in value)
    return "" if value is None else str(value)


def _refusal(choice: Mapping[str, Any], message: Mapping[str, Any]) -> str:
    if choice.get("finish_reason") == "content_filter":
        return "content filter"
    return str(message.get("refusal") or "")


def _count(value: Any) -> int | None:
    fine = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return value if fine else None


def _message(text: str) -> str:
    """What an error body says, from its usual places, or its beginning."""
    try:
        error = json.loads(text)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        return text or "(nothing)"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds: of Retry-After, a number or a date, or of OpenAI's Retry-After-Ms."""
    for name, scale in (("Retry-After-Ms", 1e-3), ("Retry-After", 1.0)):
        value = headers.get(name, "")
        try:
            seconds = float(value) * scale
        except ValueError:
            continue
        return seconds if math.isfinite(seconds) and seconds >= 0 else None
    try:
        date = email.utils.parsedate_to_datetime(headers.get("Retry-After", ""))
    except (TypeError, ValueError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=datetime.UTC)
    return max(0.0, (date - datetime.datetime.now(datetime.UTC)).total_seconds())
