"""What the bot recognises. Detectors only think: no network, database, clock, chance or files."""
