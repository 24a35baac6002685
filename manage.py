#!/usr/bin/env python3
"""The door to every command: `python3 manage.py demo` sets everything up and shows one job's whole line."""

import os
import sys


def main() -> None:
    if os.name != "posix":
        sys.exit("Tallystick runs on Linux and macOS; on Windows, inside WSL.")
    if sys.version_info < (3, 11):  # noqa: UP036 - it must be said, in words that an old Python can read
        sys.exit("Tallystick needs Python 3.11 or newer; %s is %s." % (sys.executable, sys.version.split()[0]))  # noqa: UP031
    from config.bootstrap import enter_environment

    enter_environment(sys.argv)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
