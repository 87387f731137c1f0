"""What a session asks the application: who the client is, and what it wants."""

from typing import TypedDict

from gateway.hooks.questions import (
    ConnectRequest,
    Headers,
    Peer,
    PublishRequest,
    RefreshRequest,
    RpcRequest,
    SubRefreshRequest,
    SubscribeRequest,
)
from gateway.messages import Call, Connect, Publish, Subscribe
from gateway.session.session import Session


class _Who(TypedDict):
    client: str
    user: str
    address: str
    protocol: str
    transport: str
    meta: object
    forwarded: Headers


def connect_question(session: Session, request: Connect, user: str) -> ConnectRequest:
    """`user`: whom the token names."""
    handshake = _peer(session).handshake
    assert handshake is not None
    who = _who(session)
    who["user"] = user
    return ConnectRequest(
        **who,
        handshake=handshake,
        raw=request.data,
        name=request.name,
        version=request.version,
        channels=tuple(request.positions),
    )


def refresh_question(session: Session) -> RefreshRequest:
    return RefreshRequest(**_who(session))


def subscribe_question(session: Session, request: Subscribe) -> SubscribeRequest:
    return SubscribeRequest(**_who(session), channel=request.channel, raw=request.data)


def sub_refresh_question(session: Session, channel: str) -> SubRefreshRequest:
    return SubRefreshRequest(**_who(session), channel=channel)


def publish_question(session: Session, request: Publish, channel: str, payload: object) -> PublishRequest:
    return PublishRequest(**_who(session), channel=channel, raw=request.data, kind=request.kind, payload=payload)


def rpc_question(session: Session, request: Call) -> RpcRequest:
    return RpcRequest(**_who(session), method=request.event, raw=request.data, is_answered=request.id != 0)


def _peer(session: Session) -> Peer:
    # A node with hooks gives every session one.
    assert session.peer is not None
    return session.peer


def _who(session: Session) -> _Who:
    peer = _peer(session)
    return {
        "client": session.client,
        "user": session.user.name,
        "address": peer.address,
        "protocol": peer.protocol,
        "transport": peer.transport,
        "meta": peer.meta,
        "forwarded": peer.forwarded,
    }
