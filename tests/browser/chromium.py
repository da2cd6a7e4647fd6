"""Debian's Chromium, headless, with its fake camera, microphone and screen."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, async_playwright

EXECUTABLE = Path("/usr/bin/chromium")

TEST_MACHINE = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
ON_LOOPBACK = (
    "--disable-features=WebRtcHideLocalIpsWithMdns",  # the gateway drops mDNS names: reference 9.4
    "--allow-loopback-in-peer-connection",  # the SFU is on 127.0.0.1 only
    "--auto-select-desktop-capture-source=Entire",  # no user chooses a screen
)
FAKE_DEVICES = "--use-fake-device-for-media-stream"
NO_CAMERA = "--use-fake-device-for-media-stream=device-count=0"  # no camera, but a microphone
CAMERA_GRANTED = "--use-fake-ui-for-media-stream"
CAMERA_DENIED = "--use-fake-ui-for-media-stream=deny"


@asynccontextmanager
async def chromium(*flags: str, on_loopback: bool = True, home: Path | None = None) -> AsyncIterator[Browser]:
    """Run Chromium with ``flags``, and with the flags for calls over loopback if ``on_loopback``.

    Without these, host candidates are mDNS names (``.local``; RFC 8828, mode 3 or 4) and
    127.0.0.1 is not used, as for a user that has not allowed a camera or microphone.
    ``home``: the user's folder, with the authorities that Chromium is to trust.

    Raises:
        pytest.UsageError: Debian's chromium is not installed.
    """
    executable = _executable()
    args = [*TEST_MACHINE, *(ON_LOOPBACK if on_loopback else ()), *flags]
    async with async_playwright() as playwright:
        environment: dict[str, str | float | bool] | None = {**os.environ, "HOME": str(home)} if home else None
        browser = await playwright.chromium.launch(executable_path=executable, args=args, env=environment)
        try:
            yield browser
        finally:
            await browser.close()


def _executable() -> Path:
    if not EXECUTABLE.exists():
        raise pytest.UsageError("the tests need a real browser: apt-get install chromium")
    return EXECUTABLE
