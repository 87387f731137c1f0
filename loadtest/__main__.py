"""The command, and `python -m loadtest`: says what to install where only the gateway is."""

import sys


def main() -> None:
    try:
        from loadtest import cli
    except ModuleNotFoundError as error:
        sys.exit(f"gateway-loadtest needs {error.name}: pip install 'pubsub-gateway[loadtest]'")
    cli.main(prog_name="gateway-loadtest")


if __name__ == "__main__":
    main()
