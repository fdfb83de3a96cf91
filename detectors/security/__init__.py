"""What is dangerous in what a repository uses, holds and says. Pure."""
