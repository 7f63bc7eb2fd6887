"""`tfcli completion`: print or install the scripts for bash, zsh and fish, which call the hidden verb `_complete`."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Literal

import typer

from tfcli.errors import ConfigError, TfcliError

BASH = r"""# tfcli completion for bash
_tfcli() {
    # The line, not COMP_WORDS: bash splits words at = and :, the program puts back what bash expects.
    local line="${COMP_LINE:0:COMP_POINT}"
    local IFS=$'\n'
    COMPREPLY=($(TFCLI_WORDBREAKS="$COMP_WORDBREAKS" "$1" _complete bash -- "$line" 2>/dev/null))
    local word
    for word in "${COMPREPLY[@]}"; do
        case "$word" in *[=./,]) compopt -o nospace 2>/dev/null ;; esac
    done
}
complete -o nosort -F _tfcli tfcli
"""

ZSH = r"""#compdef tfcli
# tfcli completion for zsh
_tfcli() {
    local -a open open_help whole whole_help
    local line word help answer
    answer="$(command ${words[1]} _complete zsh -- "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)"
    for line in "${(@f)answer}"; do
        [[ -z "$line" ]] && continue
        word="${line%%$'\t'*}"
        help="${line#*$'\t'}"
        [[ -n "$help" ]] && help="$word  -- $help" || help="$word"
        if [[ "$word" == *[=./] ]]; then
            open+=("$word"); open_help+=("$help")
        else
            whole+=("$word"); whole_help+=("$help")
        fi
    done
    (( $#open )) && compadd -V open -l -S '' -d open_help -a open
    (( $#whole )) && compadd -V whole -l -d whole_help -a whole
    return $(( $#open + $#whole == 0 ))
}
if [[ "$funcstack[1]" == "_tfcli" ]]; then
    _tfcli "$@"
else
    compdef _tfcli tfcli
fi
"""

FISH = r"""# tfcli completion for fish
function __tfcli_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    command $words[1] _complete fish -- $words[2..-1] "$current" 2>/dev/null
end
complete -c tfcli -f -k -a '(__tfcli_complete)'
"""

PACKAGE = Path("/usr/share/bash-completion/bash_completion")
"""File that loads completions on demand, where the package bash-completion is installed."""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
Shell = typer.Argument(None, metavar="bash|zsh|fish", help="The shell; the one in use when left out.")
Shells = Literal["bash", "zsh", "fish"]
Action = typer.Argument(..., metavar="bash|zsh|fish|install", help="Print that shell's script, or install one.")
Actions = Literal["bash", "zsh", "fish", "install"]
Words = typer.Argument(None)


def mount(app: typer.Typer) -> None:
    """Add `completion` and the hidden `_complete` to the program."""
    app.command("completion", help="Print or install shell completion: tfcli completion install")(completion)
    app.command("_complete", hidden=True)(complete)


def completion(action: Actions = Action, shell: Shells = Shell) -> None:
    """Print the completion script of a shell, or install it where that shell looks."""
    from tfcli.cli.console import out

    if action != "install":
        out(SCRIPTS[action].rstrip("\n"))
        return
    used = shell or Path(os.environ.get("SHELL", "bash")).name
    if used not in SCRIPTS:
        raise ConfigError(f"there is no completion for `{used}`, only for {', '.join(SCRIPTS)}.")
    for line in install(used):
        out(line)


def install(shell: str) -> list[str]:
    """Write a shell's script where it looks for completions; return what was done and what is left to type."""
    home = Path.home()
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    zsh = Path(os.environ.get("ZDOTDIR") or home)
    path = {
        "bash": data / "bash-completion" / "completions" / "tfcli",
        "zsh": zsh / ".zfunc" / "_tfcli",
        "fish": config / "fish" / "completions" / "tfcli.fish",
    }[shell]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SCRIPTS[shell], encoding="utf-8")
    except OSError as error:
        how = f'`eval "$(tfcli completion {shell})"`' if shell != "fish" else "`tfcli completion fish | source`"
        raise ConfigError(f"cannot write `{path}`: {error.strerror}. For this session only: {how}.") from error
    lines = [f"wrote {path}"]
    if shell == "bash" and not PACKAGE.exists():
        lines += _added(home / ".bashrc", f"source {shlex.quote(str(path))}")
    if shell == "zsh":
        lines += _added(zsh / ".zshrc", f"fpath+=({shlex.quote(str(path.parent))}); autoload -Uz compinit; compinit")
    return [*lines, f"it works in the next {shell}"]


def _added(rc: Path, line: str) -> list[str]:
    """Append a line to what a shell reads at its start, unless it is there. Return what was done."""
    text = rc.read_text(encoding="utf-8", errors="surrogateescape") if rc.exists() else ""
    if line in text.splitlines():
        return []
    try:
        with rc.open("a", encoding="utf-8") as file:
            file.write(f"{'' if text.endswith(chr(10)) or not text else chr(10)}{line}\n")
    except OSError as error:
        raise ConfigError(f"cannot write `{rc}`: {error.strerror}. Add this line to it yourself:  {line}") from error
    return [f"added to {rc}:  {line}"]


def complete(shell: str, words: list[str] = Words) -> None:
    """Print candidates for the last of `words` (for bash: of one whole line), one a line."""
    from tfcli.cli.candidates import answer
    from tfcli.cli.console import out

    try:
        lines = answer(shell, words or [""])
    except TfcliError:
        return  # a broken config or record has its say when the command runs
    if lines:
        out("\n".join(lines))
