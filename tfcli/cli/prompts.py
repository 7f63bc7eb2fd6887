"""`tfcli prompts`: class names and templates of zero-shot classification, and the score of one template."""

from __future__ import annotations

from typing import Annotated

import typer

from tfcli.cli.options import ConfigDir, Json
from tfcli.errors import ConfigError

prompts = typer.Typer(help="Class names and templates of zero-shot classification.", no_args_is_help=True)

Data = Annotated[str, typer.Argument(metavar="DATA", help="A data set, as in `tfcli ls data`.")]


def mount(app: typer.Typer) -> None:
    app.add_typer(prompts, name="prompts")


@prompts.command()
def show(
    data: Data,
    templates: Annotated[str | None, typer.Option("--set", help="A set of templates, for instance hw5.")] = None,
    json: Json = False,
    config_dir: ConfigDir = None,
) -> None:
    """Print templates, class names, which of them are not the set's own, and their source."""
    from tfcli.cli.console import emit_json, out
    from tfcli.engine.config.configs import options, roots
    from tfcli.errors import nearest
    from tfcli.probes.prompts import load_prompts, texts

    names = options("prompts", config_dir)
    if data not in names:
        raise ConfigError(f"there are no prompts for `{data}`.{nearest(data, list(names))}  (for {', '.join(names)})")
    found = load_prompts(data, None, templates=templates, roots=roots(config_dir))
    if json:
        emit_json({"data": data, "source": found.source, "templates": found.templates, "names": found.names,
                   "renamed": found.renamed, "sets": found.sets})  # fmt: skip
        return
    out(f"{data} · {len(found.names)} classes · {len(found.templates)} templates · {found.source}")
    for template in found.templates:
        out(f"  {template}")
    for name, others in found.sets.items():
        out(f"  set {name}: {' | '.join(others[:3])}{' ...' if len(others) > 3 else ''}")
    out(f"for instance  {texts(found)[0][0]}")
    out("classes  " + ", ".join(found.names))
    if found.renamed:
        out("renamed  " + "; ".join(f"{own} -> {spoken}" for own, spoken in found.renamed))


@prompts.command("try")
def try_(
    words: Annotated[
        list[str],
        typer.Argument(metavar="DATA TEMPLATE... [KEY=VALUE]...", help="A set, templates with {}, settings."),
    ],
    model: Annotated[str, typer.Option("--model", help="A model with a text tower, or one of your runs.")] = "clip",
    json: Json = False,
    config_dir: ConfigDir = None,
) -> None:
    """Score templates: tfcli prompts try flowers "a photo of a {}"."""
    data, *rest = words
    templates = [w for w in rest if "{" in w or " " in w]
    if not templates:
        raise ConfigError('give a template with `{}` where the class name goes: "a photo of a {}".')
    from tfcli.probes.prompts import check_template

    for template in templates:
        check_template(template)
    from tfcli.engine.runs.named import frozen_job

    job, run = frozen_job([model, data, *(w for w in rest if w not in templates)], config_dir=config_dir)
    from tfcli.cli.console import table
    from tfcli.engine.probe.extract import try_templates

    rows = try_templates(job, run, templates)
    table(None, {"template": "template", "top1": "top-1  [95 %]", "per_class": "per class"}, rows, json=json)
