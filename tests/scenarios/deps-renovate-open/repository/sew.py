"""Says what it sews with."""

import quiltstitch

print(quiltstitch.__version__)
