"""What the accessibility checker says of a page in a real browser."""

from __future__ import annotations


async def findings(page, axe):
    """What axe-core finds on the page: rule, and the elements."""
    await page.evaluate(axe)
    found = await page.evaluate("axe.run(document, {resultTypes: ['violations']}).then(r => r.violations)")
    return [(rule["id"], rule["help"], [node["html"][:200] for node in rule["nodes"]]) for rule in found]
