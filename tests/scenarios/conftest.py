"""What stands under <name>/repository is the scenarios' own, tests included: none of it is ours to collect."""

collect_ignore_glob = ["*/*"]
