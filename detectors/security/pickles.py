"""Which imports of a pickle run what its author wants, rather than build what a model consists of."""

from collections.abc import Iterable

# Processes, the interpreter, the network, files, other pickles: nothing of these belongs in a model.
_WHOLE = """
    os posix nt subprocess sys pty popen2 runpy pdb bdb cProfile ctypes _ctypes cffi importlib pkgutil zipimport
    pip ensurepip venv socket ssl http httplib urllib urllib2 ftplib smtplib poplib imaplib telnetlib xmlrpc
    requests httpx aiohttp asyncio multiprocessing shutil tempfile webbrowser antigravity idlelib lib2to3 distutils
    pickle _pickle cPickle dill marshal shelve pydoc
"""
# the same, but a project may well have a package of this name: only the module itself is meant
_EXACT = (
    "code codeop commands imp profile trace timeit doctest site glob fileinput inspect gc signal setuptools _thread"
)
_NAMES = {
    "builtins": "eval exec compile getattr setattr delattr open __import__ breakpoint input globals locals vars",
    "types": "CodeType FunctionType",
    "operator": "attrgetter methodcaller",
    "io": "open open_code FileIO",
    "logging": "FileHandler",
    "logging.config": "fileConfig dictConfig listen",
    "cloudpickle.cloudpickle": "_builtin_type _make_function _function_setstate subimport _make_skel_func",
    "numpy": "load fromfile memmap",
    "numpy.testing._private.utils": "runstring",
    "torch": "load compile",
    "torch.hub": "load load_state_dict_from_url",
    "torch.serialization": "load",
    "joblib": "load",
    "pandas": "read_pickle eval",
    "pandas.io.pickle": "read_pickle",
}
# through these everything can be reached from what is harmless
_INSIDES = """
    __builtins__ __import__ __class__ __subclasses__ __globals__ __getattribute__ __dict__ __mro__ __base__ __bases__
    __code__ __call__ __reduce__ __reduce_ex__ __loader__ __spec__
"""
_SAME = {"__builtin__": "builtins", "_operator": "operator", "_io": "io"}

_MODULES, _ALONE, _DUNDER = (frozenset(words.split()) for words in (_WHOLE, _EXACT, _INSIDES))
_ATTRIBUTES = frozenset(f"{module}.{name}" for module, names in _NAMES.items() for name in names.split())


def dangerous(imports: Iterable[str]) -> list[str]:
    return [name for name in imports if _is_dangerous(name)]


def _is_dangerous(name: str) -> bool:
    top, dot, rest = name.partition(".")
    if top in _SAME:
        name = f"{_SAME[top]}{dot}{rest}"
    parts = name.split(".")
    return (
        top in _MODULES
        or (top in _ALONE and len(parts) == 2)
        or any(".".join(parts[:end]) in _ATTRIBUTES for end in range(2, len(parts) + 1))
        or not _DUNDER.isdisjoint(parts)
    )
