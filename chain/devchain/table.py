"""The table of JSON-RPC methods: each is a function of the node and its parameters."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from chain.devchain.node import Node
from chain.devchain.rpc_error import METHOD_NOT_FOUND, RpcError, invalid_params

Handler = Callable[..., Any]
H = TypeVar("H", bound=Handler)


@dataclass(frozen=True)
class Method:
    """A handler with the least and the most parameters it takes, the node not counted."""

    handler: Handler
    least: int
    most: int


METHODS: dict[str, Method] = {}


def rpc(name: str) -> Callable[[H], H]:
    """Enter the decorated function into the table; its signature says which parameters it takes."""

    def enter(handler: H) -> H:
        parameters = list(inspect.signature(handler).parameters.values())[1:]
        required = [one for one in parameters if one.default is inspect.Parameter.empty]
        METHODS[name] = Method(handler, len(required), len(parameters))
        return handler

    return enter


def call_method(node: Node, name: str, params: list[Any]) -> Any:
    """Return the JSON result of a method. Raises RpcError."""
    method = METHODS.get(name)
    if method is None:
        raise RpcError(METHOD_NOT_FOUND, f"the method {name} does not exist/is not available")
    if not method.least <= len(params) <= method.most:
        wanted = str(method.least)
        if method.most > method.least:
            wanted += f" to {method.most}"
        raise invalid_params(f"{name}: expected {wanted} parameters, got {len(params)}")
    with node.lock:
        return method.handler(node, *params)
