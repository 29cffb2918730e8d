"""Addresses, keys and presets: where a request and its key may go."""

import pytest

from poise.measure.presets import PRESETS, owns, preset_for
from poise.measure.wire_target import check_key, parse_target
from poise.types import UsageError


@pytest.mark.parametrize(
    ("url", "host", "port", "tls", "path", "authority"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1", 8000, False, "/v1", "127.0.0.1:8000"),
        ("https://api.example/v2/", "api.example", 443, True, "/v2", "api.example"),
        ("http://[::1]:80/x", "::1", 80, False, "/x", "[::1]"),
        ("https://h.example:8443/a/b", "h.example", 8443, True, "/a/b", "h.example:8443"),
    ],
)
def test_parse(url, host, port, tls, path, authority):
    t = parse_target(url, PRESETS["generic"])
    assert (t.host, t.port, t.tls, t.path, t.authority) == (host, port, tls, path, authority)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "file:///etc/passwd",
        "http://",
        "http://h:x/",
        "http://h/v1?k=1",
        "http://h/a b",
        "http://h/\r\nx: y",
        "http://a..b/v1",
        "http://[::1/v1",
    ],
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(UsageError):
        parse_target(url, PRESETS["generic"])


@pytest.mark.parametrize(
    ("preset", "url", "allowed", "fine"),
    [
        ("openai", "https://api.openai.com/v1", (), True),
        ("openai", "https://api.openai.com.evil.example/v1", (), False),
        ("openai", "https://evil-api.openai.com/v1", (), False),
        ("azure", "https://me.openai.azure.com/openai/v1", (), True),
        ("azure", "https://openai.azure.com.evil.example", (), False),
        ("vllm", "http://localhost:8000/v1", (), True),
        ("vllm", "http://127.8.9.1:8000/v1", (), True),
        ("vllm", "http://10.0.0.5:8000/v1", (), False),
        ("vllm", "http://10.0.0.5:8000/v1", ("K@10.0.0.5",), True),
        ("vllm", "http://10.0.0.5:8000/v1", ("OTHER@10.0.0.5",), False),
        ("generic", "http://localhost.evil.example/v1", (), False),
    ],
)
def test_keys_go_only_where_they_belong(preset, url, allowed, fine):
    target = parse_target(url, PRESETS[preset])
    if fine:
        check_key("K", target, PRESETS[preset], allowed)
    else:
        with pytest.raises(UsageError, match=f"--allow-key K@{target.host}"):
            check_key("K", target, PRESETS[preset], allowed)


def test_the_preset_of_a_known_host_is_found():
    assert preset_for(None, "api.openai.com").name == "openai"
    assert preset_for(None, "router.huggingface.co").name == "hf-router"
    assert preset_for(None, "example.org").name == "generic"
    assert not any(owns(p, "") for p in PRESETS.values())
