"""The tokens of a running TorchServe, from the key file that it writes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from marwright.recipe.errors import ServeError

Kind = Literal["inference", "management"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokens:
    """The three tokens, and when two of them run out; `api` only renews those and never does."""

    inference: str
    inference_expires: datetime
    management: str
    management_expires: datetime
    api: str

    def expired(self, kind: Kind, now: datetime | None = None) -> bool:
        """Whether the server refuses this token by now (UTC)."""
        ends = self.inference_expires if kind == "inference" else self.management_expires
        return (now or datetime.now(UTC)) >= ends

    def header(self, kind: Kind) -> dict[str, str]:
        """The HTTP header that carries a token."""
        return {"Authorization": f"Bearer {getattr(self, kind)}"}


def read_tokens(path: Path) -> Tokens:
    """Read a `key_file.json`. Raises `ServeError` when it is missing or still being written."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return Tokens(
            inference=str(raw["inference"]["key"]),
            inference_expires=datetime.fromisoformat(raw["inference"]["expiration time"]),
            management=str(raw["management"]["key"]),
            management_expires=datetime.fromisoformat(raw["management"]["expiration time"]),
            api=str(raw["API"]["key"]),
        )
    except OSError as error:
        raise ServeError(f"{path}: no tokens: {error.strerror}; start `make serve`") from None
    except (KeyError, TypeError, ValueError) as error:
        raise ServeError(f"{path}: not TorchServe's key file ({error!r})") from None


def fresh_tokens(path: Path, management_url: str) -> Tokens:
    """Read the tokens of a running server, renewed with its API key where they have run out.

    Renewing rewrites the key file and ends the old token, which was dead already.
    Raises `ServeError` when the server does not renew them.
    """
    import httpx

    tokens = read_tokens(path)
    kinds: tuple[Kind, ...] = ("inference", "management")
    for kind in kinds:
        if tokens.expired(kind):
            try:
                answer = httpx.get(
                    f"{management_url}/token",
                    params={"type": kind},
                    headers={"Authorization": f"Bearer {tokens.api}"},
                    trust_env=False,
                )
            except httpx.TransportError as error:
                raise ServeError(f"{management_url}: no server answers ({error})") from None
            if answer.status_code != 200:
                raise ServeError(
                    f"{path}: the {kind} token has run out and the server does not renew it "
                    f"({answer.status_code}); start it again: `make stop`, then `make serve`"
                )
    return read_tokens(path)
