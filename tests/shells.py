"""Typing into a real shell on a pseudo-terminal, and reading back its line."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import time
from pathlib import Path

START = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], 'bind -x \'"\\C-t": echo "LINE<$READLINE_LINE>"\''),
    "zsh": (
        ["zsh", "-f", "-i"],
        "autoload -Uz compinit; compinit -u -D; show() { print -r \"LINE<$BUFFER>\" }; zle -N show; bindkey '^T' show",
    ),
}


class Shell:
    """An interactive bash or zsh with the completion script loaded; `complete` types a text and presses TAB."""

    def __init__(self, name: str, *, script: Path, path: Path, home: Path):
        command, setup = START[name]
        environment = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}", "HOME": str(home), "TERM": "dumb"}
        environment |= {"PS1": "$ ", "INPUTRC": "/dev/null", "ZDOTDIR": str(home), "COLUMNS": "200"}
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment, cwd=home, start_new_session=True
        )
        os.close(slave)
        self._send(f"{setup}; source {script}; echo REA''DY\n")
        self._until("READY")

    def complete(self, text: str) -> str:
        """The line after TAB."""
        self._send(text + "\t")
        line, stop = text, time.monotonic() + 30
        while line == text and time.monotonic() < stop:
            time.sleep(0.1)  # TAB asks the program; the shell reads on when it has answered
            self._send("\x14")
            line = re.findall(r"LINE<([^>]*)>", self._until(">", after="LINE<"))[-1]
        self._send("\x05\x15")  # to the end, then kill the line
        return line

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)

    def _send(self, text: str) -> None:
        os.write(self.master, text.encode())

    def _until(self, end: str, *, after: str = "") -> str:
        text, stop = "", time.monotonic() + 60
        while after not in text or end not in (text[text.rfind(after) + len(after) :] if after else text):
            if time.monotonic() > stop:
                raise TimeoutError(f"the shell did not say {end!r}: {text[-500:]!r}")
            if select.select([self.master], [], [], 0.5)[0]:
                text += os.read(self.master, 65536).decode(errors="replace")
        return text
