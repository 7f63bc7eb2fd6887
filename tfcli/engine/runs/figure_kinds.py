"""Draw one kind of figure of a run: an option of conf/viz, which names the function and the file that it reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfcli.engine.config.build import build
from tfcli.engine.config.configs import Configs, roots
from tfcli.engine.config.shorthand import literal
from tfcli.engine.config.validate import check_values
from tfcli.engine.runs.record import find_run
from tfcli.errors import ConfigError, RunError


def draw(
    kind: str, run: str, settings: Sequence[str], out: Path | None, *, config_dir: str | None = None
) -> tuple[Path, dict[str, Any]]:
    """Draw one kind of figure of a run; returns its file and what the function says of it, its numbers.

    Args:
        kind: an option of conf/viz; its function is called as `function(run, file, **settings)`.
        run: a run folder, `latest`, or the beginning of its name.
        settings: `key=value` of the function.
        out: the folder of the file; None: `figures` in the run.

    Raises:
        ConfigError: the function takes no such setting, or not this value.
        RunError: there is no such run, or it has not what is to be drawn.
    """
    import yaml

    node = Configs(roots(config_dir)).mounted("viz", kind)["viz"]
    for text in settings:
        key, equals, value = literal(text).partition("=")
        if not equals:
            raise ConfigError(f"`{text}` is not a setting. Settings are written key=value.")
        node[key] = yaml.safe_load(value)
    needs = node.get("needs") or []
    node["needs"] = needs = [needs] if isinstance(needs, str) else needs
    check_values({"viz": node})
    folder = find_run(run, needs=needs)
    if missing := [name for name in needs if not any(folder.glob(name))]:
        raise RunError(f"`{folder}` has no `{missing[0]}`, which `tfcli viz {kind}` needs.")
    path = (out or folder / "figures") / f"{kind}.png"
    return path, build({**node, "_partial_": True})(folder, path)
