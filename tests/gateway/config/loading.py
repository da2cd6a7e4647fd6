"""Configuration files that are written and loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import Config, ConfigError, load

SECRET = "0123456789abcdef0123456789abcdef"
MINIMAL = f"""
[sessions]
secret = "{SECRET}"
[[backend]]
id = "cloud"
urls = ["https://cloud.example.com/"]
secret = "5f0c0d1e9a"
"""


def read(path: Path, text: str = MINIMAL, **environ: str) -> Config:
    """Write a configuration file and load it with these environment variables."""
    path.write_text(text)
    return load(path, environ)


def refusal(path: Path, text: str = MINIMAL, **environ: str) -> str:
    """Return the error text of a refused configuration: one line without the secret, with FILE for the path."""
    with pytest.raises(ConfigError) as caught:
        read(path, text, **environ)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert SECRET not in sentence
    return sentence.replace(str(path), "FILE")
