"""How `--help` shows the commands: in groups, and each with an example."""

import click

_NODES = "--target ws://127.0.0.1:8001 --target ws://127.0.0.1:8002"

# Arguments of each command's example, by group and command.
GROUPS = {
    "Load": {
        "rooms": f"rooms {_NODES} --rate 10 --json result.json --html report.html",
        "fanout": f"fanout {_NODES} --members 2000",
        "latency": f"latency {_NODES}",
        "idle": f"idle {_NODES} --connections 10000",
        "soak": f"soak {_NODES} --seconds 86400 --html report.html",
    },
    "Trouble": {
        "storm": f"storm {_NODES} --drop 0.8",
        "rolling": f"rolling {_NODES} --command 'systemctl restart gateway@1' --command 'systemctl restart gateway@2'",
        "slow": f"slow {_NODES} --stop 0.2",
        "mix": f"mix evening.toml {_NODES}",
    },
    "Results": {
        "report": "report result.json --html report.html",
        "compare": "compare before.json after.json --max-regression 15%",
        "capacity": "capacity result.json --connections 100000 --publishes 5000 --subscribers 20",
        "peers": "peers gateway nats",
    },
}


class Groups(click.Group):
    """Commands in groups. Each ends its help with its example."""

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        super().add_command(cmd, name)
        (example,) = (examples[cmd.name or ""] for examples in GROUPS.values() if cmd.name in examples)
        cmd.epilog = f"\b\nExample:\n  gateway-loadtest {example}"

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, examples in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(limit=100)) for name in examples])
