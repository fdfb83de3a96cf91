"""Scores with the features of a package that is not public."""

import featurekit_of_acme

print(featurekit_of_acme.__name__)
