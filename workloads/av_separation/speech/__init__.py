"""Speech with mouths, made by machine: Debian's voices speak, their phoneme times drive a drawn mouth.

`python -m workloads.av_separation.speech --help` makes a corpus; `pack/` is a small one that is committed.
"""
