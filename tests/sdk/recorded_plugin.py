"""A plugin that does what the Go plugin of tests/vectors did when it was recorded."""

from __future__ import annotations

from prox.sdk import Changes, Connection, Plugin, Request, Response, Route, Verdict, modify

plugin = Plugin()


@plugin.on_configure
def configured(route: Route) -> None:
    route.set_targets(["127.0.0.1:9001", "127.0.0.1:9002"])
    plugin.set_targets(route.id, groups={"eu": ["127.0.0.1:9001"], "us": ["127.0.0.1:9002"]})
    plugin.set_targets(action="backend", targets=["127.0.0.1:9003"])
    plugin.set_targets(all_routes=True, targets=["127.0.0.1:9004"])
    plugin.set_targets(action="backend", groups={"k": ["127.0.0.1:9005"]})
    route.set_speed(download_mbps=10, upload_mbps=5, group_key="g")
    plugin.set_speed(action="backend", download_mbps=1.5)
    plugin.log.info("configured", route=route.id, n=3, ok=True)


@plugin.on_request
def decide(request: Request) -> Verdict | None:
    match request.path:
        case "/deny":
            return request.deny(401, "no", {"WWW-Authenticate": "Bearer"})
        case "/drop":
            return request.drop()
        case "/fallback":
            return request.fallback()
        case "/speed":
            return request.allow(download_mbps=8, upload_mbps=4, group_key="user-1")
        case "/rewrite":
            return request.allow(path="/new", strip_query=True)
        case "/plain":
            return request.allow()
        case "/nil":
            return None
        case "/echo":
            echo = "|".join([request.headers["x-in"], request.host, request.query, request.body.decode()])
            return request.allow({"X-Echo": echo})
    return request.allow({"X-User-ID": "u1"})


@plugin.on_response
def change(response: Response) -> Changes | None:
    if response.request.path == "/plain":
        return None
    return modify(203, headers={"X-Mod": "1"}, remove=["Server"])


@plugin.on_connect
async def connect(connection: Connection) -> bool:
    return connection.domain.startswith("ok.")


if __name__ == "__main__":
    plugin.run()
