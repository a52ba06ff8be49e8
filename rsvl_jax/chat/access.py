"""Where the model is, and the key to it, which is shown to nobody."""

import os
import urllib.request
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from rsvl_jax.errors import UserError

_HIDDEN = "***"
_LEAST_KEY = 4  # characters; what is shorter hides nothing and would black out ordinary words


@dataclass(frozen=True)
class Access:
    """Address of the endpoint (as of OpenAI, up to "/v1"), name of the model, key ("" none)."""

    url: str
    model: str
    key: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(
                f"--url={_bare(self.url)!r} is no address: give one such as "
                "https://api.openai.com/v1 or http://localhost:8000/v1"
            )
        if parts.username or parts.password or parts.query:
            raise UserError(
                f"--url={_bare(self.url)!r}: leave out user, password and query; the key is read "
                "from the environment or from --api_key_file"
            )
        if not self.key.isprintable() or not self.key.isascii() or " " in self.key:
            raise UserError("the API key has blanks, line breaks or letters that no key has")

    @property
    def chat(self) -> str:
        """Address of the chat completions."""
        return f"{self.url.rstrip('/')}/chat/completions"

    @property
    def headers(self) -> dict[str, str]:
        """Headers of a request; the only place where the key goes."""
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    @property
    def proxy(self) -> str | None:
        """Of the environment (HTTPS_PROXY, NO_PROXY, ...), None for the straight way."""
        parts = urlsplit(self.url)
        if urllib.request.proxy_bypass(parts.hostname or ""):
            return None
        return urllib.request.getproxies().get(parts.scheme)

    def hide(self, text: str) -> str:
        """The text without the key: servers quote it in errors."""
        if len(self.key) < _LEAST_KEY:
            return text
        return text.replace(self.key, _HIDDEN)


def find(url: str, model: str, key_file: str, key_variable: str) -> Access:
    """From flags, and where they are empty from OPENAI_BASE_URL, OPENAI_MODEL, OPENAI_API_KEY.

    key_file: a file with the key alone; key_variable: the environment variable that holds it. The
    key itself is no flag: everybody on a machine can read the command lines of its processes.
    """
    url = url or os.environ.get("OPENAI_BASE_URL", "")
    model = model or os.environ.get("OPENAI_MODEL", "")
    if not url:
        raise UserError("no endpoint: set --url or OPENAI_BASE_URL, e.g. https://api.openai.com/v1")
    if not model:
        raise UserError("no model: set --model or OPENAI_MODEL to a name that the endpoint knows")
    return Access(url, model, _key(key_file, key_variable))


def _key(path: str, variable: str) -> str:
    if not path:
        return os.environ.get(variable, "").strip()
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--api_key_file={path!r} cannot be read") from error


def _bare(url: str) -> str:
    """An address without what may be secret in it."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "?"
    return urlunsplit((parts.scheme, host + port, parts.path, "", ""))
