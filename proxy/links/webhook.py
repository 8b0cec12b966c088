"""The HTTP side of webhooks: one signed POST, and what the receiver said to it."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ssl
import time
from collections.abc import Callable

import httpx

from proxy.config import WebhookSettings
from proxy.telemetry.metrics import VERSION


def signature(secret: str, sent_at_s: int, body: bytes) -> str:
    """The X-Signature of a body: when it was sent (Unix time), and an HMAC-SHA256 over both.

    The scheme is that of Stripe's webhooks: the receiver computes the HMAC of the time, a dot
    and the body with the same secret, and refuses an old time, so nobody can send it again.
    """
    signed = f"{sent_at_s}.".encode() + body
    digest = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    return f"t={sent_at_s},v1={digest}"


class WebhookClient:
    """Sends to the one configured address; `close` it at the end.

    Redirects are not followed, and of an answer only its status is read.
    """

    def __init__(
        self, settings: WebhookSettings, *, clock_s: Callable[[], float] = time.time
    ) -> None:
        if settings.url is None or settings.secret is None:
            raise ValueError("webhook.url and webhook.secret are needed")
        self._url = settings.url
        self._secret = settings.secret.get_secret_value()
        self._timeout_s = settings.timeout_s
        self._clock_s = clock_s
        self._http = httpx.AsyncClient(
            follow_redirects=False,
            timeout=settings.timeout_s,
            headers={"content-type": "application/json", "user-agent": f"smpp-proxy/{VERSION}"},
        )

    async def send(self, body: str) -> str | None:
        """POST a JSON text; None when it was taken (2xx), else why not, in a few words.

        The reasons name no address and nothing the receiver wrote, so there are only few.
        """
        octets = body.encode()
        headers = {"x-signature": signature(self._secret, int(self._clock_s()), octets)}
        try:
            # httpx' own timeout is for each read, and a receiver that trickles has many.
            async with (
                asyncio.timeout(self._timeout_s),
                self._http.stream("POST", self._url, content=octets, headers=headers) as response,
            ):
                status = response.status_code
        except (TimeoutError, httpx.TimeoutException):
            return "no answer in time"
        except (httpx.ConnectError, OSError) as error:
            return "no TLS connection" if _is_tls(error) else "no connection"
        except (httpx.HTTPError, httpx.InvalidURL):
            return "no proper HTTP answer"
        return None if 200 <= status < 300 else f"answered {status}"

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


def _is_tls(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False
