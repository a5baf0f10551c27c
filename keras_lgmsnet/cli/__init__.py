"""The lgms-* commands, a file each: it parses arguments, calls its verb and prints the outcome.

Keras fixes its backend when it is imported, so the verbs are imported only once it is chosen.
"""

import importlib.util

if importlib.util.find_spec("click") is None:
    raise SystemExit(
        "The lgms-* commands need packages that are not installed: "
        "pip install 'keras-lgmsnet[train]', or [predict] to predict only."
    )
