"""Names a page after its title."""

import inkwell
from slugify import slugify

print(inkwell.__version__, slugify("On Growth & Form"))
