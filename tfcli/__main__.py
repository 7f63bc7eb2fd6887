"""Entry point of the program: set up streams and signals, then run the command."""

import gc

from tfcli.engine.runs import signals, terminal


def main() -> None:
    """Run the command in `sys.argv`; exit codes are listed in `tfcli.errors`."""
    gc.set_threshold(20_000)  # imports make many objects and no garbage: to look through them takes 0.4 s
    terminal.make_streams_resilient()
    signals.install_handlers()
    try:
        from tfcli.cli.app import main as run

        run()
    finally:
        signals.kill_workers()


if __name__ == "__main__":
    main()
