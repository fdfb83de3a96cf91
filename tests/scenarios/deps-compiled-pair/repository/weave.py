"""Shows what was woven."""

import loomview
import weftcore

print(loomview.__version__, weftcore.__version__)
