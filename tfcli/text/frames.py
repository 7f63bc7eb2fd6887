"""How labelled texts are framed for a model to read. Imports no torch.

start   <start> text <extract>, <start> text <delimiter> pair <extract>  (Radford et al. 2018, section 3.3)
cls     [CLS] text [SEP], [CLS] text [SEP] pair [SEP]                    (Devlin et al. 2019, section 3)
"""

from __future__ import annotations

START, DELIMITER, EXTRACT = -1, -2, -3
MARKS = (START, DELIMITER, EXTRACT)
"""Ids of the marks of the layout `start`, which no vocabulary has: they are learned with the head."""
