"""An application that greets whom the guard let in: `uvicorn app:application`."""

from pathlib import Path

from guarded import Guarded, Message, Receive, Send

from prox.plugin import Binding, PluginSpec

GUARD = Path(__file__).with_name("guard.py")


async def greet(scope: Message, receive: Receive, send: Send) -> None:
    """The application itself, which knows nothing of plugins."""
    assert scope["type"] == "http"
    await receive()  # the body, which is not looked at
    user = dict(scope["headers"])[b"x-user"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"hello " + user + b"\n"})


application = Guarded(
    greet,
    Binding(route_id="app:0", plugin=PluginSpec(path=str(GUARD), alias="guard", own_headers=("X-User",))),
)
