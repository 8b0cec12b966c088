"""Webhooks without a network: the settings, the signature, the pauses."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy import config
from proxy.config import WebhookSettings
from proxy.flow.webhooks import retry_in_s
from proxy.links.webhook import WebhookClient, signature


def problems(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "proxy.toml"
    path.write_text("[webhook]\n" + text)
    with pytest.raises(config.ConfigError) as caught:
        config.load(path)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    "url",
    [
        "ftp://billing.example/", "billing.example/hook", "http://", "https:///hook", "",
        "http://billing.example:x/", "http://billing.example:99999/", "http://[::1/",
        "http://billing.example/a b", "http://billing.example/\\u000a", "file:///etc/passwd",
    ],
)  # fmt: skip
def test_a_bad_url_is_refused_in_a_clear_line(tmp_path: Path, url: str) -> None:
    [line] = problems(tmp_path, f'url = "{url}"\nsecret = "s"\n')
    assert line == "webhook.url: should begin with http:// or https:// and name a host"


def test_a_url_needs_a_secret(tmp_path: Path) -> None:
    [line] = problems(tmp_path, 'url = "https://billing.example/"\n')
    assert line == "webhook.secret: is missing; what goes to webhook.url is signed with it"
    [line] = problems(tmp_path, 'url = "https://billing.example/"\nsecret = ""\n')
    assert line.startswith("webhook.secret: ")
    with pytest.raises(ValueError, match="are needed"):
        WebhookClient(WebhookSettings())


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "proxy.toml"
    path.write_text('[webhook]\nurl = "https://u:url-word@h/"\nsecret = "secret-word"\n')
    settings = config.load(path)
    assert settings.webhook.url == "https://u:url-word@h/"
    assert "word" not in repr(settings)
    lines = problems(tmp_path, 'url = "ftp://u:url-word@h/"\nsecret = "secret-word"\n')
    assert "word" not in "\n".join(lines)
    assert config.Settings().webhook == WebhookSettings(url=None, secret=None, timeout_s=10)


def test_the_signature_is_that_of_a_known_answer() -> None:
    # Computed with: printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac secret
    assert signature("secret", 1_700_000_000, b'{"a":1}') == (
        "t=1700000000,v1=49f24e537407743fa4a0242bb63b94b9a47ee99cbbe071ccd8a22550ae411686"
    )


def test_pauses_double_from_five_seconds_to_an_hour() -> None:
    for attempts, pause_s in [(1, 5), (2, 10), (3, 20), (10, 2560), (11, 3600), (5000, 3600)]:
        pauses = {retry_in_s(attempts) for _ in range(200)}
        assert min(pauses) >= pause_s * 0.75
        assert max(pauses) <= pause_s * 1.25
        assert len(pauses) > 100  # what failed together does not come back together
