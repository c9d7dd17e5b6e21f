"""Runs the API: `python -m api [--fd N]`. Address and port come from the settings."""

import argparse
import sys

import uvicorn

from api.main import create_app
from records.settings import ConfigurationError, load_settings

GRACE_SECONDS = 5  # for open event streams, when the server ends
# Of an idle connection. A request that comes just as the server closes it is never answered, so it has to be the client
# who closes. Caddy keeps connections to the API for 120 s.
KEEP_ALIVE_SECONDS = 150


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m api", description=__doc__)
    parser.add_argument("--fd", type=int, help="a listening socket that this process inherited")
    fd: int | None = parser.parse_args().fd
    try:
        settings = load_settings()
        app = create_app(settings)
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 2
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        fd=fd,
        access_log=False,  # addresses of submissions are the keys to them, and do not belong in logs
        server_header=False,
        log_level="warning",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
