"""What type checkers tell an author: mypy reads this file with all others, and each ignore must be needed.

Nothing here runs.
"""

from __future__ import annotations

from prox.sdk import Changes, Connection, Disconnect, Plugin, Request, Response, Route, Verdict, modify

right = Plugin()
wrong = Plugin()


@right.on_request
def by_header(request: Request) -> Verdict:
    return request.allow() if "authorization" in request.headers else request.deny(401)


@right.on_response
async def tag(response: Response) -> Changes | None:
    return modify(headers={"X-Path": response.request.path}) if response.status == 200 else None


@right.on_connect
async def by_name(connection: Connection) -> bool:
    return connection.domain.endswith(".test")


@right.on_disconnect
def count(end: Disconnect) -> None:
    right.log.info("ended", seconds=end.duration)


@right.on_configure
def configured(route: Route) -> None:
    route.set_targets(["127.0.0.1:80"])


@right.background
async def refresh() -> None:
    right.set_targets(all_routes=True, groups={"eu": ["127.0.0.1:80"]})


async def the_handler_keeps_its_type(request: Request) -> Verdict:
    return by_header(request)


@wrong.on_request  # type: ignore[type-var] # a dict is no verdict
def answers_a_dict(request: Request) -> dict[str, bool]:
    return {"ok": bool(request.path)}


@wrong.on_request  # type: ignore[type-var] # on_request is called with a Request
def takes_a_response(response: Response) -> bool:
    return response.status == 200


@wrong.on_response  # type: ignore[type-var] # a verdict is no change of an answer
async def answers_a_verdict(response: Response) -> Verdict:
    return response.request.deny()


@wrong.background  # type: ignore[type-var] # a background task is a coroutine function
def no_coroutine() -> None: ...
