"""The program's first line: take the streams and the signals over, then read the command."""

from tfcli.engine.runs import signals, terminal


def main() -> None:
    """Run the command in `sys.argv`. Exit codes: see tfcli.errors."""
    terminal.make_streams_resilient()
    signals.install_handlers()
    try:
        from tfcli.cli.app import main as run

        run()
    finally:
        signals.kill_workers()


if __name__ == "__main__":
    main()
