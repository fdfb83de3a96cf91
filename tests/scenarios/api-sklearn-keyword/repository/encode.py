"""Turns colours into columns."""

from sklearn.preprocessing import OneHotEncoder

encoder = OneHotEncoder(
    handle_unknown="ignore",
    sparse=False,  # the model wants plain arrays
)
columns = encoder.fit_transform([["red"], ["green"], ["red"]])
print(columns.tolist())
