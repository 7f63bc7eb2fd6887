"""Find the completions of the last word of a command line, from the program's own verbs and options."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from tfcli.engine.config.configs import FROZEN_VERBS, Configs, known_heads, roots
from tfcli.engine.runs.completion import Candidate, files, runs, settings

SETTINGS = {"settings", "overrides", "filters", "words", "values", "where"}
RUNS = {"run", "runs", "words"}
FILES = {"files", "file", "paths"}
GROUPS = {"--model": "model", "--data": "data", "model": "model", "data": "data", "names": "data"}
FROZEN = {*FROZEN_VERBS, "extract", "ls"}
"""Commands whose words are a model or a run, a data set and settings of the config `probe`."""
FOLDERS = {"--config-dir", "-cd", "--root", "--out", "--to"}


def answer(shell: str, words: Sequence[str]) -> list[str]:
    """Return the candidates in the form that the shell's script wants. For bash, `words` is one line, cut at the
    cursor.
    """
    if shell == "bash":
        words = split(words[-1])[1:] or [""]
    found = follow(list(words[:-1]), words[-1])
    if shell == "bash":
        head = before_break(words[-1], os.environ.get("TFCLI_WORDBREAKS", " \t\n\"'><=;|&(:"))
        return [escape(c.word[len(head) :]) for c in found if c.word.startswith(head)]
    return [f"{c.word}\t{' '.join(c.help.split())}" for c in found]


def split(line: str) -> list[str]:
    """Split an unfinished command line into words; the last one is empty after a blank."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    try:
        words.extend(lexer)
    except ValueError:  # an open quotation: its text is the word
        words.append(lexer.token.lstrip("\"'"))
        return words
    return words if line[-1:].strip() or line.endswith("\\ ") else [*words, ""]


def before_break(word: str, breaks: str) -> str:
    """Return the part of `word` that bash takes for words of their own, since it splits at `=` and `:`."""
    cut = max((word.rfind(c) for c in "=:" if c in breaks), default=-1)
    return word[: cut + 1]


def escape(word: str) -> str:
    """Put a backslash before the characters of `word` that bash would interpret."""
    return re.sub(r"([\s\"'\\$`&|;<>()*?!#{}\[\]~])", r"\\\1", word)


def follow(before: list[str], current: str) -> list[Candidate]:
    """Walk the verbs in `before`, then return the candidates for `current`."""
    from typer.main import get_command

    from tfcli.cli.app import app

    command: Any = get_command(app)
    rest = list(before)
    while hasattr(command, "commands"):
        while rest and rest[0].startswith("-"):
            rest.pop(0)
        if not rest:
            return _verbs(command, current)
        command = command.get_command(None, rest.pop(0))
    return _arguments(command, rest, current) if command is not None else []


def _verbs(command: Any, current: str) -> list[Candidate]:
    if current.startswith("-"):
        return _options(command, current)
    verbs = [(name, command.get_command(None, name)) for name in command.list_commands(None)]
    return [Candidate(n, c.get_short_help_str(80)) for n, c in verbs if not c.hidden and n.startswith(current)]


def _options(command: Any, current: str, used: Iterable[str] = ()) -> list[Candidate]:
    found = []
    for param in command.params:
        if getattr(param, "hidden", False) or param.param_type_name != "option" or (set(param.opts) & set(used)):
            continue
        found += [Candidate(o, getattr(param, "help", "") or "") for o in param.opts if o.startswith(current)]
    found += [Candidate("--help", "Show this message.")] if "--help".startswith(current) else []
    long = [candidate for candidate in found if candidate.word.startswith("--")]
    return list(dict.fromkeys(long or found))


def _arguments(command: Any, before: list[str], current: str) -> list[Candidate]:
    valued = {o: p for p in command.params if p.param_type_name == "option" and not p.is_flag for o in p.opts}
    config_dir = next((w for o, w in pairwise(before) if o in ("--config-dir", "-cd")), None)
    if before and before[-1] in valued:
        return _choices(valued[before[-1]], current) or _named(before[-1], current, config_dir)
    if current.startswith("-"):
        return _options(command, current, before)
    typed = [w for i, w in enumerate(before) if not w.startswith("-") and (i == 0 or before[i - 1] not in valued)]
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    place, taken = 0, 0
    while place < len(arguments) - 1 and arguments[place].nargs == 1 and taken < len(typed):
        place, taken = place + 1, taken + 1
    if not arguments or (arguments[place].nargs == 1 and taken < len(typed)):
        return []
    name = arguments[place].name
    if name == "words" and command.name in FROZEN:
        return _frozen(typed, current, config_dir)
    found: list[Candidate] = _sweeps(current) if name == "which" else []
    if name in RUNS and "=" not in current and not (name == "words" and typed):
        found += runs(current)
    if command.name == "ablate":
        return _ablation(name, typed, current, config_dir)
    if name in SETTINGS:
        found += settings(typed, current, config_dir=config_dir)
    if name == "where":
        found = [candidate for candidate in found if candidate.word.startswith("launcher")]
    return found or _choices(arguments[place], current) or _named(name, current, config_dir)


def _choices(param: Any, current: str) -> list[Candidate]:
    """Return the choices that the type of an option or argument declares."""
    return [Candidate(word) for word in getattr(param.type, "choices", ()) if word.startswith(current)]


def _sweeps(current: str) -> list[Candidate]:
    """Return sweeps by the names of their folders, the newest first, `latest`, and paths when a path is typed."""
    if "/" in current or current.startswith("."):
        return list(files(current))
    from tfcli.sweeps.find import all_sweeps

    newest = all_sweeps()
    found = [Candidate("latest", "the newest sweep")] if newest else []
    found += [Candidate(folder.name, folder.parent.name) for folder in newest[:50]]
    return [candidate for candidate in found if candidate.word.startswith(current)]


def _ablation(name: str, typed: list[str], current: str, config_dir: str | None) -> list[Candidate]:
    """Complete `NAME [budget=NAME] [KEY=VALUE]...`: the files of conf/ablation, then the budgets of the named one."""
    configs = Configs(roots(config_dir))
    if name == "name":
        known = {**configs.options("ablation"), "ls": "list them"}
        return [Candidate(word, text) for word, text in known.items() if word.startswith(current)]
    budgets = configs.load(f"ablation/{typed[0]}").get("budgets") or {}
    words = [f"budget={budget}" for budget in budgets]
    key = current.partition("=")[0]
    if key == "budget" and "=" in current:
        return [Candidate(word) for word in words if word.startswith(current)]
    found = [Candidate("budget=", f"now {next(iter(budgets), '')}")] if "budget=".startswith(current) else []
    return found + settings(typed[1:], current, config_dir=config_dir)


def _frozen(typed: list[str], current: str, config_dir: str | None) -> list[Candidate]:
    """Complete `[MODEL|RUN] [DATA] [KEY=VALUE]...`."""
    bare = [word for word in typed if "=" not in word]
    given = {word.partition("=")[0] for word in typed}
    groups = [group for group in ("model", "data") if group not in given]
    found: list[Candidate] = []
    if "=" not in current and len(bare) < len(groups):
        group = groups[len(bare)]
        found = _named(f"--{group}", current, config_dir)
        found += runs(current) if group == "model" else []
    said = [f"{group}={word}" for group, word in zip(groups, bare, strict=False)]
    said = [*said, *(word for word in typed if "=" in word)]
    return found + settings(said, current, config_dir=config_dir, primary="probe")


def _named(name: str, current: str, config_dir: str | None) -> list[Candidate]:
    """Return the candidates of an option or argument by its name."""
    if name in FOLDERS or name in FILES:
        return list(files(current))
    if name == "kind":
        return [Candidate(word) for word in Configs(roots(config_dir)).groups() if word.startswith(current)]
    if name == "--heads":
        options = known_heads(Configs(roots(config_dir)))
    else:
        options = Configs(roots(config_dir)).options(GROUPS[name]) if name in GROUPS else {}
    return [Candidate(word, text) for word, text in options.items() if word.startswith(current)]
