"""Text as CLIP's tokenizer wants it before it is cut up: entities read, quotes straight, spaces single, lower case.

The release does this with ftfy, then unescapes HTML twice, strips, collapses white space and lower-cases. Of ftfy's
repairs these are made here: entities, ligatures, full-width characters, curly quotes, control characters, composed
accents (NFC). Not made: text that was decoded by a wrong code page stays as it is (ftfy turns `cafÃ©` into `café`).
"""

from __future__ import annotations

import html
import re
import unicodedata

CURLY = {"'": "\u02bc\u2018\u2019\u201a\u201b", '"': "\u201c\u201d\u201e\u201f"}
LIGATURES = {"Ĳ": "IJ", "ĳ": "ij", "ŉ": "ʼn", "Ǳ": "DZ", "ǲ": "Dz", "ǳ": "dz", "Ǆ": "DŽ", "ǅ": "Dž", "ǆ": "dž"}
LIGATURES |= {"Ǉ": "LJ", "ǈ": "Lj", "ǉ": "lj", "Ǌ": "NJ", "ǋ": "Nj", "ǌ": "nj", "ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl"}
LIGATURES |= {"ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "ſt", "ﬆ": "st"}
WIDE = {code: unicodedata.normalize("NFKC", chr(code)) for code in [0x3000, *range(0xFF01, 0xFFF0)]}
PLAIN = {ord(char): straight for straight, chars in CURLY.items() for char in chars}
PLAIN |= {ord(char): parts for char, parts in LIGATURES.items()} | WIDE
CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f\u206a-\u206f\ufeff\ufff9-\ufffc]")
TERMINAL = re.compile(r"\x1b\[((?:\d|;)*)([a-zA-Z])")


def clean(text: str) -> str:
    """Return `text` with its entities read, its quotes straight, its spaces single, in lower case."""
    if not text.isascii() or "&" in text or not text.isprintable():
        if "<" not in text:  # otherwise the entities may be meant
            text = html.unescape(text)
        text = CONTROL.sub("", TERMINAL.sub("", text.translate(PLAIN)))
        text = html.unescape(html.unescape(unicodedata.normalize("NFC", text)))
    return " ".join(text.split()).lower()
