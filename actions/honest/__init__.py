"""How an edit is looked at for tricks, by the kind of its file."""
