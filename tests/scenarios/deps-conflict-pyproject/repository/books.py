"""Checks the books with the form that they were written in."""

import ledgercheck
import ledgerform

if not ledgerform.__version__.startswith("3."):
    raise SystemExit(f"the books are not in the form of {ledgerform.__version__}")
print("checked by", ledgercheck.__version__)
