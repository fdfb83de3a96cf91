"""The languages of the product: words by gettext, numbers and times by locale.

`catalog(language)` gives the words, `formats` the rest; a language is one of the codes in `LANGUAGES`.
"""

from app.i18n.catalogs import Catalog, catalog
from app.i18n.languages import DEFAULT, LANGUAGES, PSEUDO, negotiate, tag

__all__ = ["DEFAULT", "LANGUAGES", "PSEUDO", "Catalog", "catalog", "negotiate", "tag"]
