"""`gateway explain`"""

import time
from typing import TYPE_CHECKING, NamedTuple

import click

from gateway.cli import channel_names
from gateway.cli.asked import Asked
from gateway.cli.options import Sources, with_settings
from gateway.errors import ConfigError, Disconnect, RequestError
from gateway.log import escape

if TYPE_CHECKING:
    from gateway.auth.identity import Grant, Identity
    from gateway.auth.permissions import Verdict
    from gateway.channels import ChannelSpec
    from gateway.cli.ways import Personal
    from gateway.config.settings import ServerSettings
    from gateway.config.sources import Loaded


class Client(NamedTuple):
    """The client in question: who it is, how that is known, and whether it may connect."""

    user: str
    source: str
    connect: "Verdict"
    # Why a token opens the channel to it, and what is wrong with a token that does not.
    granted: str = ""
    problem: str = ""


@click.command(short_help="Why did my client not get it? Tell the rule.")
@click.argument("channel")
@click.option("--user", metavar="ID", help="Id of the user. [default: that of the token, else anonymous]")
@click.option("--token", metavar="TOKEN", help="The connection token or subscription token of the client.")
@click.option(
    "--origin",
    metavar="ORIGIN",
    help="Tell whether pages of this origin (https://app.example.com) may connect.",
)
@click.option("--all", "everything", is_flag=True, help="Print all options, not only those that differ.")
@with_settings("no_auth", "demo", "allow_open_network", "hooks.python", "app")
def explain(
    sources: Sources, channel: str, user: str | None, token: str | None, origin: str | None, everything: bool
) -> None:
    """Why did my client not get it? Tell what a client may do on CHANNEL, and by which rule.

    Give --config and the flags that the node was started with: no node is asked. The first line says what is judged by.

    Prints what the channel's name means, and for each operation whether it is allowed, by which rule, and otherwise
    every way to allow it. The options of the channel that differ from the defaults follow as TOML. Put names with $
    or # in single quotes.

    \b
    gateway explain '$chat:room' --user 42 --origin https://app.example.com
    """
    from gateway.channels import Channels
    from gateway.cli.ways import Personal

    sources = sources.found().with_application()
    loaded = sources.read()
    settings = loaded.settings
    click.echo(f"judged by     {escape(_judged_by(sources, loaded))}")
    channels = Channels(settings)
    client = _client(settings, channel, user, token)
    try:
        spec = channels.resolve("default", channel)
    except RequestError as error:
        raise ConfigError(f"channel {channel!r}: {error}{channel_names.similar(channel, channels)}") from error
    _print_channel(spec)
    _print_client(client)
    if origin is not None:
        _print_origin(settings, origin)
    personal = Personal(settings.personal.enabled, _owner(settings, spec))
    if personal.enabled and client.user and client.user == personal.owner:
        client = client._replace(granted="the server subscribes every connection of the user (personal.enabled)")
    _print_verdicts(client, spec, personal, Asked(settings))
    _print_options(loaded, spec, everything=everything)


def _judged_by(sources: Sources, loaded: "Loaded") -> str:
    """The sources of the settings, and what to give if they are perhaps not those of the node."""
    file = sources.config_file
    origins = [label for label in dict.fromkeys(loaded.origins.values()) if label != str(file)]
    flags = [label for label in origins if label.startswith("--")]
    found = [
        *([str(file) if file.is_absolute() else f"./{file}"] if file else []),
        *(["variables GATEWAY_*"] if len(origins) > len(flags) else []),
        *flags,
    ]
    if not found:
        return "the defaults, no settings file found: give --config and the flags of the node"
    return ", ".join(found) + ("" if file else " (no settings file found)")


def _owner(settings: "ServerSettings", spec: "ChannelSpec") -> str:
    """The user whose personal channel this is, or would be with personal.enabled; empty if there is none."""
    from gateway.channels import Channels

    enabled = settings.personal.model_copy(update={"enabled": True})
    channels = Channels(settings.model_copy(update={"personal": enabled}))
    owners = (user for user in spec.users or () if channels.personal("default", user) == spec.channel)
    return next(owners, "")


def _print_channel(spec: "ChannelSpec") -> None:
    click.echo(f"channel       {spec.channel.name}")
    click.echo(f"namespace     {spec.namespace or '(none)'}")
    click.echo(f"private       {'yes, it starts with $' if spec.private else 'no'}")
    users = "no" if spec.users is None else f"to {', '.join(sorted(spec.users)) or 'nobody'}"
    click.echo(f"user-limited  {users}\n")


def _print_options(loaded: "Loaded", spec: "ChannelSpec", *, everything: bool) -> None:
    from gateway.config.description import describe_table
    from gateway.config.settings import NamespaceSettings

    settings = loaded.settings
    path = ("namespaces", spec.namespace) if spec.namespace else ("channels",)
    configured = settings.namespaces.get(spec.namespace, NamespaceSettings()) if spec.namespace else settings.channels
    by = "no_auth" if settings.no_auth else "demo"
    opened = {
        ".".join((*path, name)): by
        for name in type(spec.options).model_fields
        if getattr(configured, name) != getattr(spec.options, name)
    }
    # The defaults of these two depend on other options.
    effective = {
        "history_size": spec.history.size if spec.history is not None else 0,
        "presence": bool(spec.options.presence),
    }
    options = spec.options.model_copy(update={name: value for name, value in effective.items() if value or everything})
    click.echo(f"\n# {'All options' if everything else 'Options that differ from the defaults (--all prints all)'}:")
    click.echo(describe_table(options, path, {**loaded.origins, **opened}, everything=everything), nl=False)


def _print_client(client: Client) -> None:
    who = escape(client.user) or "(anonymous)"
    click.echo(f"user          {who}, {client.source}")
    if client.problem:
        click.echo(f"token         {escape(client.problem)}")


def _print_origin(settings: "ServerSettings", origin: str) -> None:
    """By which entry pages of the origin may connect, or why not."""
    from gateway.auth.origins import OriginPolicy
    from gateway.config.settings import OriginSettings

    def admits(*allowed: str) -> bool:
        return OriginPolicy(OriginSettings(allowed=allowed), "").check(origin) is None

    by = next((entry for entry in settings.origins.allowed if admits(entry)), None)
    if by is not None:
        verdict = f"allowed: origins.allowed has {by}"
    else:
        reason = OriginPolicy(settings.origins, settings.auth.cookie).check(origin)
        verdict = f"REFUSED: {reason}"
    click.echo(f"origin        {verdict}")
    if by is None:
        click.echo(f"{'':<16}- {_way_of_origin(origin)}")


def _way_of_origin(origin: str) -> str:
    from gateway.auth.origins import OriginPolicy
    from gateway.config.settings import OriginSettings

    try:
        OriginPolicy(OriginSettings(allowed=(origin,)), "")
    except (ConfigError, ValueError):
        return "none: browsers send SCHEME://HOST[:PORT] of the page, or null for a file; only * allows the latter"
    return f"{escape(origin)} in origins.allowed"


def _print_verdicts(client: Client, spec: "ChannelSpec", personal: "Personal", asked: Asked) -> None:
    from gateway.auth.permissions import Verdict
    from gateway.cli.ways import OPERATIONS, verdict_on, ways

    hooks = {each: asked.on(each, spec) for each in OPERATIONS}
    verdicts = {
        "connect": client.connect,
        **{each: verdict_on(each, spec, client.user, is_asked=bool(hooks[each])) for each in OPERATIONS},
    }
    if not client.problem:
        hooks["connect"] = asked.to_connect()
    if client.granted:
        verdicts["subscribe"] = Verdict(True, client.granted, "")
        hooks["subscribe"] = ""
    click.echo()
    for operation, verdict in verdicts.items():
        if hooks.get(operation) and (verdict.allowed or operation in ("connect", "subscribe")):
            verdicts[operation] = Verdict(True, "", "")
            click.echo(f"{operation:<26}asked: {escape(hooks[operation])} decides")
            continue
        click.echo(f"{operation:<26}{'allowed' if verdict.allowed else 'REFUSED'}: {verdict.rule}")
        for way in ways(operation, spec, client.user, verdict, personal):
            click.echo(f"{'':<28}- {way}")
    if not all(verdict.allowed for verdict in verdicts.values()):
        click.echo("\nBelow each refusal: what would allow it; one of them is enough.")


def _client(settings: "ServerSettings", channel: str, user: str | None, token: str | None) -> Client:
    import asyncio

    from gateway.auth.identity import Identity
    from gateway.auth.permissions import Verdict

    if token is None:
        return Client(user or "", "as given" if user else "without a token", _may_connect(settings, user))
    outcome = asyncio.run(_verify(settings, token))
    if isinstance(outcome, RequestError | Disconnect):
        refused = Verdict(False, str(outcome), "a valid token")
        return Client(user or "", "since the token is not valid", refused, problem=str(outcome))
    if isinstance(outcome, Identity):
        return _connecting(outcome, channel, user)
    return _subscribing(settings, outcome, channel, user)


def _may_connect(settings: "ServerSettings", user: str | None) -> "Verdict":
    from gateway.auth.permissions import Verdict

    auth = settings.auth
    if not user:
        if not settings.admits_anonymous:
            return Verdict(False, "clients need a token", "auth.anonymous")
        by = [name for name in ("no_auth", "demo") if getattr(settings, name)] or ["auth.anonymous"]
        return Verdict(True, f"clients without a token may connect ({by[0]})", "")
    if auth.has_key:
        return Verdict(True, "with a connection token of this user", "")
    return Verdict(False, "there is no key to check tokens with", "auth.hmac_secret, auth.public_key or auth.jwks_*")


async def _verify(settings: "ServerSettings", token: str) -> "Identity | Grant | RequestError | Disconnect":
    import asyncio

    from gateway.auth.identity import Grant, Identity
    from gateway.auth.revocations import Revocations
    from gateway.auth.token_verifier import TokenVerifier

    verifier = TokenVerifier(settings.auth, Revocations(), time.time)
    outcome: asyncio.Future[Identity | Grant | RequestError | Disconnect] = asyncio.get_running_loop().create_future()
    await verifier.start()
    try:
        verifier.either(token, outcome.set_result)
        return await outcome
    finally:
        await verifier.stop()


def _connecting(identity: "Identity", channel: str, user: str | None) -> Client:
    """With a connection token."""
    from gateway.auth.permissions import Verdict

    accepted = Verdict(True, "the token is valid (revocations and kicks are known to running nodes only)", "")
    if user is not None and user != identity.user:
        problem = f"is of user {identity.user!r}, not of {user!r}"
        return Client(identity.user, "by the connection token", accepted, problem=problem)
    granted = "the token subscribes the connection" if channel in (identity.subs or {}) else ""
    return Client(identity.user, "by the connection token", accepted, granted)


def _subscribing(settings: "ServerSettings", grant: "Grant", channel: str, user: str | None) -> Client:
    """With a subscription token, which does not say whether the client may connect."""
    who = grant.user if user is None else user
    client = Client(who, "by the subscription token" if user is None else "as given", _may_connect(settings, who))
    if grant.channel != channel:
        return client._replace(problem=f"is for channel {grant.channel!r}, not for {channel!r}")
    if grant.user != who:
        return client._replace(problem=f"is of user {grant.user!r}, not of {who!r}")
    only = f", for the connection {grant.client} only" if grant.client else ""
    return client._replace(granted=f"the subscription token lets the user in{only}")
