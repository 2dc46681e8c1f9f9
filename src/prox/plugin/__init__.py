"""The host of external plugins: it starts them, asks their hooks, and takes what they push.

A plugin is a program of its own, in any language. `Manager` is all that a user needs; it works in any asyncio
program, with or without the proxy around it. The messages of the hooks and the names of the protocol are those of
`prox.wire`, and are here too, so that who runs plugins alone needs one package.
"""

from prox.wire import (
    HOOK_ON_CONNECT,
    HOOK_ON_DISCONNECT,
    HOOK_ON_REQUEST,
    HOOK_ON_RESPONSE,
    METHOD_CONFIGURE,
    METHOD_LOG,
    METHOD_READY,
    METHOD_SET_SPEED,
    METHOD_SET_TARGETS,
    AuthorizeResult,
    ConfigureParams,
    ConnInfo,
    ConnResult,
    DisconnectInfo,
    Envelope,
    HookType,
    MatchInfo,
    Push,
    PushParams,
    Request,
    RequestInfo,
    Response,
    ResponseModResult,
    ResponsePair,
    UpstreamResponseInfo,
    marshal_envelope,
    unmarshal_envelope,
)

from .asking import HookRecord
from .caller import Caller
from .errors import (
    CallError,
    ErrorKind,
    HookError,
    PluginError,
    PluginStartError,
    PluginSwapError,
    RequestNotEncodable,
)
from .figures import HookFigures, PluginState, State
from .index import HookIndex
from .limits import PluginLimits
from .manager import Manager, Prepared
from .model import BalancerSink, Binding, Delays, OnError, PluginSpec, RouteInfo, SpeedSink
from .process import Process

__all__ = [
    "HOOK_ON_CONNECT",
    "HOOK_ON_DISCONNECT",
    "HOOK_ON_REQUEST",
    "HOOK_ON_RESPONSE",
    "METHOD_CONFIGURE",
    "METHOD_LOG",
    "METHOD_READY",
    "METHOD_SET_SPEED",
    "METHOD_SET_TARGETS",
    "AuthorizeResult",
    "BalancerSink",
    "Binding",
    "CallError",
    "Caller",
    "ConfigureParams",
    "ConnInfo",
    "ConnResult",
    "Delays",
    "DisconnectInfo",
    "Envelope",
    "ErrorKind",
    "HookError",
    "HookFigures",
    "HookIndex",
    "HookRecord",
    "HookType",
    "Manager",
    "MatchInfo",
    "OnError",
    "PluginError",
    "PluginLimits",
    "PluginSpec",
    "PluginStartError",
    "PluginState",
    "PluginSwapError",
    "Prepared",
    "Process",
    "Push",
    "PushParams",
    "Request",
    "RequestInfo",
    "RequestNotEncodable",
    "Response",
    "ResponseModResult",
    "ResponsePair",
    "RouteInfo",
    "SpeedSink",
    "State",
    "UpstreamResponseInfo",
    "marshal_envelope",
    "unmarshal_envelope",
]
