"""How busy the servers were: a cost per message means little without it."""

from gateway_loadtest.results.result import CONNECTING, SETTLING, Result

# Share of a core below which a server is hardly loaded.
LOW = 0.3


def server_load(result: Result) -> float | None:
    """Share of a core that each server used on average while something was published; None where it is unknown."""
    seconds = sum(each.end - each.begin for each in result.stages if each.name not in (CONNECTING, SETTLING))
    servers = sum(each.kind != "redis" for each in result.servers)
    busy = result.costs.per_publish * result.totals.acknowledged / 1e6
    return busy / seconds / servers if busy and seconds and servers else None


def at_load(result: Result) -> str:
    """In words, to be put behind a cost; empty where it is unknown."""
    load = server_load(result)
    return "" if load is None else f"at {load:.0%} of a core per server"


def caution(result: Result) -> str:
    """Why the costs per message say little; empty where they do not."""
    load = server_load(result)
    if load is None or load >= LOW:
        return ""
    return (
        f"the servers used {load:.0%} of a core each: at so little load, CPU per delivery and per publish are mostly "
        "idle cost, and several times what they are under load; use a higher --rate"
    )
