"""A list with a name."""


class DataFrame:
    def __init__(self, rows):
        self.rows = rows

    def with_row(self, row):
        return DataFrame([*self.rows, row])
