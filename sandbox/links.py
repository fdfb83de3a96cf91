"""Links to what GitHub keeps beside its API: logs and archives. They are fetched without an Authorization header."""

from __future__ import annotations

import secrets
import time

from starlette.responses import RedirectResponse, Response

from sandbox.call import Call

LINK_LIFE_S = 60.0


def lend(call: Call, content: bytes, media_type: str) -> Response:
    """302 to a link that lives a minute."""
    links = call.state.log_links
    for old in [k for k, (until, _, _) in links.items() if until < time.monotonic()]:
        del links[old]
    key = secrets.token_urlsafe(24)
    links[key] = (time.monotonic() + LINK_LIFE_S, content, media_type)
    return RedirectResponse(f"{call.state.base_url}/_blobs/{key}", 302)
