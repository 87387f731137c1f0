"""`gateway schema`"""

import json
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.options import Sources, with_settings

if TYPE_CHECKING:
    from gateway.channels import Channels
    from gateway.cli.asked import Asked
    from gateway.config.settings import ServerSettings
    from gateway.hooks.payloads import Payload

Document = dict[str, Any]

# Of the channel objects: names of namespaces cannot be empty.
NO_NAMESPACE = "no_namespace"
DESCRIPTION = (
    "The channels of a gateway, as it sees them: it sends publications to the subscribers of a channel, and receives "
    "those of clients that may publish. Names that start with $ need a subscription token, and those with # are for "
    "the users listed after it."
)
ANYTHING = "Any JSON value, a text, or bytes."


@click.command(short_help="Print an AsyncAPI document of the channels.")
@with_settings("hooks.python", "app", "no_auth", "demo", "allow_open_network")
def schema(sources: Sources) -> None:
    """Print an AsyncAPI 3.0 document of the namespaces and the models of their payloads.

    For documentation and code generators. The models are those that your code declares with hooks.payload. No node is
    asked.

    \b
    gateway schema --hooks myapp.realtime:hooks > asyncapi.json
    gateway schema --app myapp:app
    """
    from gateway.channels import Channels
    from gateway.cli.asked import Asked
    from gateway.hooks.fitting import check_fit

    settings = sources.with_application().read().settings
    asked = Asked(settings)
    channels = Channels(settings)
    check_fit(asked.hooks, settings, channels)
    click.echo(json.dumps(document(settings, channels, asked), indent=2, ensure_ascii=False))


def document(settings: "ServerSettings", channels: "Channels", asked: "Asked") -> Document:
    """AsyncAPI 3.0.0."""
    from gateway import __version__

    models = {each.namespace: each for each in asked.hooks.payloads}
    found: Document = {
        "asyncapi": "3.0.0",
        "info": {"title": "gateway", "version": __version__, "description": DESCRIPTION},
        "defaultContentType": "application/json",
        "servers": _servers(settings),
        "channels": {},
        "operations": {},
        "components": {"messages": {}, "schemas": {}},
    }
    if settings.auth.has_key and not settings.admits_anonymous and not asked.to_connect():
        found["components"]["securitySchemes"] = {"token": _token()}
        for server in found["servers"].values():
            server["security"] = [{"$ref": "#/components/securitySchemes/token"}]
    for namespace in ("", *sorted(channels.namespaces)):
        name = namespace or _unused(NO_NAMESPACE, channels.namespaces)
        spec = channels.resolve("default", f"{namespace}:x" if namespace else "x")
        found["channels"][name] = _channel(namespace, name)
        found["components"]["messages"][name] = _message(models.get(namespace), name, found["components"]["schemas"])
        actions = ["send", *(["receive"] if spec.options.allow_publish or asked.on("publish", spec) else [])]
        for action in actions:
            found["operations"][f"{action}.{name}"] = {
                "action": action,
                "channel": {"$ref": f"#/channels/{name}"},
                "summary": "Publications." if action == "send" else "Clients publish.",
                "messages": [{"$ref": f"#/channels/{name}/messages/publication"}],
            }
    return found


def _unused(name: str, taken: Any) -> str:
    while name in taken:
        name += "_"
    return name


def _servers(settings: "ServerSettings") -> Document:
    """The listeners of a node. Behind a balancer, clients know another address."""
    from gateway.config import listen_addresses
    from gateway.config.hosts import bracketed

    protocol = "wss" if settings.tls.certificate is not None else "ws"
    endpoints = [each for each in map(listen_addresses.parse, settings.listen) if not each.path]
    return {
        f"node{number or ''}": {
            "host": f"{bracketed(listen_addresses.reached(each.host))}:{each.port}",
            "pathname": "/connection/websocket",
            "protocol": protocol,
            "description": "The Centrifuge client protocol, JSON or Protobuf. Plain WebSockets: /ws/CHANNEL.",
        }
        for number, each in enumerate(endpoints)
    }


def _token() -> Document:
    return {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A connection token. Clients of the Centrifuge protocol send it with their connect command.",
    }


def _channel(namespace: str, name: str) -> Document:
    what = f"A channel of the namespace {namespace}." if namespace else "A channel without a namespace."
    return {
        "address": f"{namespace}:{{name}}" if namespace else "{name}",
        "description": what,
        "parameters": {"name": {"description": "Printable ASCII without white space; 255 characters with all."}},
        "messages": {"publication": {"$ref": f"#/components/messages/{name}"}},
    }


def _message(model: "Payload | None", name: str, schemas: Document) -> Document:
    """The message; adds the schemas that it refers to."""
    if model is None:
        return {"name": name, "summary": ANYTHING}
    # Models of different namespaces may have one name.
    payload, named = model.schema(f"#/components/schemas/{name}.{{name}}")
    schemas.update({f"{name}.{key}": draft_7(each) for key, each in named.items()})
    return {"name": name, "title": model.name, "payload": draft_7(payload)}


def draft_7(schema: Any) -> Any:
    """A JSON Schema of the libraries (2020-12) as AsyncAPI has them."""
    if isinstance(schema, list):
        return [draft_7(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: draft_7(value) for key, value in schema.items()}
    if isinstance(found.get("prefixItems"), list):
        # A tuple. `items` is for what comes after it, in both.
        found["additionalItems"] = found.pop("items", True)
        found["items"] = found.pop("prefixItems")
    discriminator = found.get("discriminator")
    if isinstance(discriminator, dict) and isinstance(discriminator.get("propertyName"), str):
        # That of OpenAPI. Each of the alternatives has its own constant anyway.
        del found["discriminator"]
    return found
