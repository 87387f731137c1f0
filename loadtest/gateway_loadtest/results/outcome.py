"""The outcome of a run, judged by its figures."""

from gateway_loadtest.planning.plan import Plan
from gateway_loadtest.results.result import Generator, Outcome, Totals
from gateway_loadtest.text import counted

# Share of a core that the busiest worker used on average while publishing; above it the generator was measured.
CPU_LIMIT = 0.9
# Milliseconds that its event loops may be late.
LAG_LIMIT = 50.0
# Shares of the publications, or of the time, that may be late: above the first the latencies up to p99 hold no more,
# and above the second none does.
DOUBTFUL, INVALID = 0.01, 0.1


def judge(plan: Plan, totals: Totals, generator: Generator) -> Outcome:
    """Of a run that went on to its end. What arrived weighs more than what was accepted, and that more than how well it
    was measured."""
    missed = 0 if plan.breaks else totals.missed_and_told
    if _wrong(totals) + missed > plan.max_loss:
        return "lost"
    is_useless = plan.publishes and not totals.acknowledged
    if is_useless or totals.unanswered or totals.refused + totals.unknown > plan.refusals:
        return "refused"
    if totals.standing < totals.connections:
        return "disconnected"
    return "invalid" if generator.invalid else "passed"


def weigh(generator: Generator) -> tuple[list[str], list[str]]:
    """Why the figures say more of the generator or its machine than of the servers, or else why only the slowest
    latencies do; one sentence each. Only one of the two has any."""
    found = []
    is_invalid = is_overloaded = generator.cpu > CPU_LIMIT
    if is_overloaded:
        found.append(f"the busiest worker used {generator.cpu:.0%} of a core: give it more workers, or less to do")
    late = generator.late_slots / max(generator.slots, 1)
    if late > DOUBTFUL:
        is_invalid |= late > INVALID
        found.append(
            f"{generator.late_slots:,} of {generator.slots:,} publications were sent more than "
            f"{generator.late_after:g} ms after they were due"
        )
    # As shares of the time: p99 is late when one hundredth is.
    if generator.lag.p99 > LAG_LIMIT:
        is_invalid |= generator.lag.p90 > LAG_LIMIT
        found.append(f"the event loops of the generator were {generator.lag.p99:.0f} ms late (p99)")
    if found and not is_overloaded:
        if generator.is_idle:
            found.append(
                f"the busiest worker never used more than {generator.cpu_max:.0%} of a core while publishing: the "
                "machine was busy, not the generator"
            )
        if not is_invalid:
            found.append("the slowest latencies may therefore not be those of the servers")
    return (found, []) if is_invalid else ([], found)


def remarks_on(totals: Totals, generator: Generator) -> list[str]:
    """What should be known, whatever the outcome; one sentence each."""
    found = []
    if totals.missed_and_told:
        found.append(
            f"{totals.missed_and_told:,} of {totals.expected:,} expected deliveries were missed by subscribers that "
            "had lost their connection or subscription, and were told that they cannot recover"
        )
    if _wrong(totals):
        found.append(
            f"{totals.lost:,} lost, {totals.duplicated:,} duplicated, {totals.misordered:,} out of order, "
            f"{totals.misrouted:,} to somebody else, of {totals.expected:,} expected deliveries"
        )
    refused = totals.refused + totals.unknown + totals.unanswered
    if refused:
        found.append(
            f"{refused:,} of {generator.slots:,} publications were not accepted: {totals.refused:,} refused or not "
            f"sent, {totals.unknown:,} unknown since the connection broke, {totals.unanswered:,} never answered"
        )
    # What this tool cut is not the server's.
    broken = totals.disconnects - totals.cut
    if broken > 0:
        found.append(f"connections lost that this tool did not cut: {broken:,}")
    if totals.standing < totals.connections:
        found.append(f"{totals.standing:,} of {counted(totals.connections, 'client')} stood at the end")
    if totals.stopped:
        found.append(
            f"{counted(totals.stopped, 'subscriber')} stopped reading for a while; what was due in that time counts as "
            "delivered, and not in the latencies"
        )
    if totals.moved:
        found.append(f"{counted(totals.moved, 'client')} moved to another target; the pairs are those of the begin")
    return found


def _wrong(totals: Totals) -> int:
    return totals.lost + totals.duplicated + totals.misordered + totals.misrouted
