"""`python -m gateway_loadtest`."""

from gateway_loadtest.cli import main

if __name__ == "__main__":
    main(prog_name="gateway-loadtest")
