"""Numbers of tokens as people write them."""

from __future__ import annotations

import pytest

from devplan.core.units import parse_tokens


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("1", 1),
        ("32768", 32_768),
        (" 32768 ", 32_768),
        ("32,768", 32_768),
        ("32_768", 32_768),
        ("1,048,576", 2**20),
        ("32k", 32_768),
        ("32K", 32_768),
        ("32 k", 32_768),
        ("128k", 131_072),
        ("1m", 2**20),
        ("10M", 10 * 2**20),
        ("1.5k", 1536),
        ("0.5m", 2**19),
        ("1,024k", 2**20),
        ("0", 0),
    ],
)
def test_tokens(text, tokens):
    assert parse_tokens(text) == tokens


@pytest.mark.parametrize(
    "text",
    [
        *("", "k", "-1", "+1", "1.5", "32kb", "32KiB", "32kk", "1e5", "0x10", "1.3k", "32.768"),
        *("3,2768", "32_76", "32,768,", ",768", "32 768", "٣٢", "3²", "9" * 5000, "inf", "nan"),
    ],
)
def test_no_tokens(text):
    assert parse_tokens(text) is None
