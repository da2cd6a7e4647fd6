"""Examines a page with axe-core: the rules of WCAG and axe's best practices."""

from __future__ import annotations

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page

_axe = Axe()


async def violations(page: Page) -> list[str]:
    """Return what axe-core finds in the current state of a page: rule, element and explanation."""
    await page.evaluate("Promise.allSettled(document.getAnimations().map(one => one.finished))")
    found = (await _axe.run(page)).response["violations"]
    return [
        f"{rule['id']}: {node['target']} {node.get('failureSummary', rule['help'])} in {node['html'][:200]}"
        for rule in found
        for node in rule["nodes"]
    ]
