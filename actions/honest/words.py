"""The words by which a trick shows, whatever file it stands in."""

import re

ASSERTION = re.compile(r"\bassert\b|\bassert_\w+\s*\(|\bassert[A-Z]\w*\s*\(|\bpytest\.raises\b|\bexpect\s*\(")
CONDITION = re.compile(r"^\s*(?:-\s+)?(?:if|needs|on|fail_under|fail-under|min_coverage)\s*[:=]")
SUPPRESSION = re.compile(
    r"\|\|\s*(?:(?:/usr)?(?:/bin/)?true\b|:(?:\W|$)|(?:exit|return)\s+0|echo\b)|[;&]\s*(?:true|exit\s+0)\s*(?:$|[;\"'#])"
    r"|continue-on-error|allow_failure|\bset\s+\+[eo]\b|\bset\s+\+\w{0,20}e|\btrap\b.{0,200}\bexit\b"
    r"|#\s*noqa|#\s*(?:type|pyright|mypy|ty|ruff):\s*(?:ignore|noqa|disable)|#\s*(?:pylint|flake8):\s*(?:disable|noqa)"
    r"|#\s*pragma:\s*no\s*cover|#\s*nosec|@ts-(?:ignore|expect-error|nocheck)|eslint-disable|istanbul\s+ignore"
    r"|\bskip(?:if|test|unless)?\s*\(|\bmark\.skip|\bunittest\.skip|\bxfail\b|\bimportorskip\b|\bexpectedFailure\b"
    r"|--exit-zero|--ignore-errors?\b|--ignore-failures?\b|--no-fail\S*|--passWithNoTests\b|--collect-only\b"
    r"|--deselect\b|--no-verify\b|--no-cov\b|--warn-only\b|--runxfail\b|--continue-on-(?:error|collection-errors)\b"
    r"|--insecure\b|--no-check-certificate\b"
    r"|warnings\.(?:filterwarnings|simplefilter)\s*\(|\bexcept\b[^:]{0,200}:\s*(?:pass|continue)\b|\bcontextlib\.suppress\b",
    re.IGNORECASE,
)

# Programs that are there to find failures, wherever they are spoken of.
CHECKS = re.compile(
    r"(?<![\w-])(?:pytest|tox|nox|mypy|pyright|ruff|flake8|pylint|bandit|unittest|eslint|jest|coverage|pip-audit|pre-commit)\b"
)

# Names by which checks are told to look away, as variables of the environment.
BLINDERS = re.compile(
    r"^(?:PYTEST_ADDOPTS|PYTEST_PLUGINS|PYTEST_DISABLE\w*|PYTHONWARNINGS|PYTHONOPTIMIZE|PYTHONHASHSEED|PYTHONSTARTUP"
    r"|BASH_ENV|COVERAGE\w*|MYPY\w*|RUFF_\w+|FLAKE8\w*|PYLINT\w*|TOX_SKIP_ENV|NOXSESSION|PRE_COMMIT\w*|SKIP\w*|\w*_SKIP"
    r"|\w*IGNORE_FAIL\w*|\w*SEED)$"
)

# What is weaker when its number grows; what must not be touched at all.
TOLERANCE = re.compile(r"^(?:.*[_-])?(?:rtol|atol|tol|tolerances?)$", re.IGNORECASE)
LIMIT = re.compile(
    r"^(?:.*[_-])?(?:threshold|fail[_-]?under|coverage|max[_-]?fail\w*)$"
    r"|^(?:min|minimum|max|maximum)[_-](?:accuracy|f1|auc|score|recall|precision|loss|error|mse|mae|rmse|r2|drift|coverage"
    r"|latency\w*|quality)$|^(?:accuracy|loss|score|quality)[_-](?:gate|limit|floor|min|max|bound)$",
    re.IGNORECASE,
)
CHANCE = re.compile(r"^(?:.*[_-])?(?:seed|random[_-]?state)$", re.IGNORECASE)
STRICT = re.compile(
    r"^(?:strict|.*[_-]strict|fail\w*|.*[_-]fail[_-]?on\w*|error[_-]on\w*|xfail[_-]strict)$", re.IGNORECASE
)
LENIENT = re.compile(
    r"^(?:ignore[_-]?(?:errors?|failures?|missing\w*)|allow[_-]?(?:failures?|errors?)|skip[_-]?\w*(?:test|check|eval|valid)\w*"
    r"|continue[_-]?on[_-]?error|exit[_-]?zero|no[_-]?fail\w*)$",
    re.IGNORECASE,
)
