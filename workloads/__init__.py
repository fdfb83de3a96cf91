"""GPU programs, each started as a process of its own: `python -m workloads NAME VERB --out DIR --set key=value`.

Nothing of the bot is imported here, and the bot imports nothing of this.
"""
