"""Whether a model still does what it did: what is kept of a window, and what is read from it. Pure numpy and scipy.

What a way in does with the observations of a model:

    batch = Batch(task="binary", prediction=[...], score=[...], label=[...], id=[...], session=[...])
    kept = merge(kept, summarise(batch, key=key))     # batches in the order in which they came
    kept = join(kept, ids=[...], labels=[...], key=key)     # labels that came later, for predictions of this window

`kept` is JSON (`app.domain.evidence.Observed.summary`) and holds no raw rows: 20 to 200 kB, about 400 kB more while
labels are waited for, 3.5 MB with the longest names in every place. A reference is kept in the same way. `empty(task)`
is where a window begins. Columns of unequal length, an unknown task and a merge of different tasks raise `ValueError`
with a message for the sender; bad values in single rows are counted as `invalid` and left out.

What is kept, and within which bounds, stands at `detectors.degradation.summary.empty`.
"""

from detectors.degradation.summary import TASKS, Batch, empty, join, merge, summarise

__all__ = ["TASKS", "Batch", "empty", "join", "merge", "summarise"]
