"""The rules of structure, held by parsing the source.

Each rule is a function from sources (path -> text) to a list of violations. The first half of this file defines the
rules, the second applies each to the project and to a small source that breaks it.
"""

import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
Sources = dict[str, str]

# Which parts of minigrad each part may import, besides itself. A row names only parts of the rows above it: this is
# the one direction in which imports point. `minigrad/__init__.py` is no part; it imports all of them.
CORE = {"writes", "hooks", "leaves", "modes", "core", "dtypes", "op", "checks"}
ENGINE = CORE | {"memory", "flat", "random", "kernels", "arguments", "ops", "tensor", "creation"}
MAY_IMPORT = {
    "kernels": set(),
    "random": {"kernels"},
    "writes": set(),
    "leaves": {"writes"},
    "modes": set(),
    "hooks": {"writes"},
    "core": {"writes", "hooks", "leaves", "modes", "kernels"},
    "dtypes": {"core"},
    "checks": {"core"},
    "memory": set(),
    "flat": CORE,
    "op": {"core", "dtypes", "checks"},
    "arguments": CORE,
    "ops": CORE | {"random", "kernels", "arguments"},
    "tensor": CORE | {"ops", "arguments"},
    "creation": CORE | {"random", "ops", "arguments", "tensor"},
    "nn": ENGINE,
    "optim": ENGINE | {"nn"},
    "checkpoint": ENGINE | {"nn", "optim"},
    "torchfile": {"core", "checkpoint"},
    "testing": ENGINE | {"nn", "optim"},
    "trace": ENGINE | {"nn", "optim"},
    "draw": ENGINE | {"nn", "optim", "trace"},
}

# What minitransformer may name of minigrad: the modules that PyTorch's users know as public, and ours of that kind.
PUBLIC = {
    "minigrad",
    "minigrad.checkpoint",
    "minigrad.draw",
    "minigrad.kernels",
    "minigrad.nn",
    "minigrad.nn.functional",
    "minigrad.nn.init",
    "minigrad.nn.utils",
    "minigrad.ops",
    "minigrad.optim",
    "minigrad.optim.lr_scheduler",
    "minigrad.random",
    "minigrad.testing",
    "minigrad.torchfile",
    "minigrad.trace",
    "minigrad.trace.leak",
}

OPTIONAL = {"tokenizers"}  # in an extra; the one function that needs it says so
HEAVY = {"numba", "graphviz", "matplotlib", "num2words", "rich"} | OPTIONAL  # may be imported inside a function
COMES_WITH = {"llvmlite": "numba"}  # numba asks for the one version that fits it
MAX_LINES = 500
MAX_ENGINE_LINES = 700
READ_FIRST = ("minigrad/core.py", "minigrad/op.py", "minigrad/tensor.py")


def sources(*folders: str) -> Sources:
    paths = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}


# ------------------------------------------------------------------------------------------------ reading the imports
class Import(NamedTuple):
    """One imported thing; `target` is "a.b" both for `import a.b` and for `from a import b`."""

    path: str
    line: int
    target: str
    name: str  # what the importing file calls it, if it is the target that gets a name
    in_function: bool

    def __str__(self) -> str:
        return f"{self.path}:{self.line} imports {self.target}"


def module_name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imports(path: str, source: str) -> list[Import]:
    """All imports of a file but those for type checkers only, which never happen."""
    package = module_name(path) if path.endswith("/__init__.py") else module_name(path).rpartition(".")[0]

    def walk(node: ast.AST, in_function: bool) -> Iterator[Import]:
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for child in node.orelse:
                yield from walk(child, in_function)
            return
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or ("" if "." in alias.name else alias.name)  # `import a.b` binds only a
                yield Import(path, node.lineno, alias.name, name, in_function)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            prefix = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield Import(path, node.lineno, f"{prefix}.{alias.name}", alias.asname or alias.name, in_function)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = ast.unparse(node.func).rpartition(".")[2]
            if called in {"import_module", "__import__", "importorskip"}:
                yield Import(path, node.lineno, str(node.args[0].value), "", in_function)
        inside = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, inside)

    return list(walk(ast.parse(source), False))


def all_imports(files: Sources) -> list[Import]:
    return [item for path, source in files.items() for item in imports(path, source)]


def resolve(target: str, modules: set[str]) -> str | None:
    """The module of ours that `target` is, or is a name of; None for the modules of others."""
    while target and target not in modules:
        target = target.rpartition(".")[0]
    return target or None


def top(target: str) -> str:
    return target.partition(".")[0]


# ---------------------------------------------------------------------------------------------------------- the rules
def upward_imports(files: Sources) -> list[str]:
    """Imports inside minigrad that do not point down the layers."""
    modules = {module_name(path) for path in files}
    violations = []
    for item in all_imports(files):
        source, target = module_name(item.path), resolve(item.target, modules)
        if top(source) != "minigrad" or source == "minigrad" or target is None:
            continue
        mine, theirs = source.split(".")[1], [*target.split("."), ""][1]
        if mine not in MAY_IMPORT:
            violations.append(f"{item.path}: minigrad.{mine} has no place in MAY_IMPORT")
        elif mine != theirs and theirs not in MAY_IMPORT[mine]:
            violations.append(str(item))
    return violations


def cycles(files: Sources) -> list[str]:
    """Modules that import each other in a circle while they are being loaded."""
    modules = {module_name(path) for path in files}
    graph: dict[str, set[str]] = {name: set() for name in modules}
    for item in all_imports(files):
        target = resolve(item.target, modules)
        if target is not None and not item.in_function:
            graph[module_name(item.path)].add(target)
    while leaves := {name for name, targets in graph.items() if not targets}:  # what is left over is on a cycle,
        graph = {name: targets - leaves for name, targets in graph.items() if name not in leaves}
    while tops := set(graph) - set().union(*graph.values()):  # or imports one
        graph = {name: targets for name, targets in graph.items() if name not in tops}
    return sorted(graph)


def late_imports(files: Sources) -> list[str]:
    """Imports inside functions, except the heavy packages and those kernels of ours that need Numba."""
    modules = {module_name(path) for path in files}
    at_the_top = [item for item in all_imports(files) if not item.in_function]
    needs_numba = {module_name(item.path) for item in at_the_top if top(item.target) == "numba"}
    allowed = {name for name in needs_numba if name.startswith("minigrad.kernels.")}
    return [
        str(item)
        for item in all_imports(files)
        if item.in_function and top(item.target) not in HEAVY and resolve(item.target, modules) not in allowed
    ]


def late_attachments(files: Sources) -> list[str]:
    """Attributes that one module sets on what it imported from another one of ours."""
    modules = {module_name(path) for path in files}
    violations = []
    for path, source in files.items():
        ours = {item.name for item in imports(path, source) if resolve(item.target, modules)}
        for node in ast.parse(source).body:
            is_setattr = isinstance(node, ast.Expr) and ast.unparse(node).startswith("setattr(")
            targets = node.targets if isinstance(node, ast.Assign) else []
            if is_setattr or any(isinstance(t, ast.Attribute) and ast.unparse(t.value) in ours for t in targets):
                violations.append(f"{path}:{node.lineno} {ast.unparse(node)}")
    return violations


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def defined_private_names(files: Sources) -> set[str]:
    """The names with an underscore that some function, class, method, attribute or slot of these files has."""
    names = set()
    for source in files.values():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                names.add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                names.add(node.value)  # __slots__, object.__setattr__(self, "_name", ...)
    return {name for name in names if is_private(name)}


def uses_of_internals(files: Sources) -> list[str]:
    """What minitransformer takes from minigrad although it is not public.

    Public is a name without an underscore in one of the PUBLIC modules, whether it is imported (`from minigrad import
    core`) or reached through an attribute (`mg.core.state`). A private attribute of one of minigrad's objects
    (`model._modules`) is not public either.
    """
    modules = {module_name(path) for path in files}
    theirs = {path: source for path, source in files.items() if top(module_name(path)) == "minigrad"}
    ours = {path: source for path, source in files.items() if top(module_name(path)) == "minitransformer"}
    their_private = defined_private_names(theirs) - defined_private_names(ours)
    violations = []

    def check(where: str, target: str) -> None:
        private = any(is_private(name) for name in target.split("."))
        if top(target) == "minigrad" and (private or resolve(target, modules) not in PUBLIC):
            violations.append(f"{where} uses {target}")

    for path, source in ours.items():
        found = imports(path, source)
        meaning = {item.name: item.target for item in found if item.name} | {
            top(item.target): top(item.target) for item in found if not item.name
        }
        for item in found:
            check(f"{path}:{item.line}", item.target)
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Attribute):
                root, _, rest = ast.unparse(node).partition(".")
                if root in meaning:
                    check(f"{path}:{node.lineno}", f"{meaning[root]}.{rest}")
                elif node.attr in their_private:
                    violations.append(f"{path}:{node.lineno} uses .{node.attr}")
    return violations


def torch_imports(files: Sources) -> list[str]:
    """Imports of torch outside of the one file that may skip the test when it is absent, and of the benchmarks."""
    allowed = ("tests/oracle.py", "tests/benchmarks/")
    return [str(x) for x in all_imports(files) if top(x.target) == "torch" and not x.path.startswith(allowed)]


def third_party(files: Sources) -> set[str]:
    """The packages of others that these files import, at any place."""
    known = set(sys.stdlib_module_names) | {top(module_name(path)) for path in files}
    return {COMES_WITH.get(name, name) for item in all_imports(files) if (name := top(item.target)) not in known}


def declared(dependencies: list[str]) -> set[str]:
    """The import names of requirements, for packages whose two names are the same."""
    return {re.split(r"[^\w.-]", requirement)[0].replace("-", "_") for requirement in dependencies}


def too_long(files: Sources, limit: int) -> list[str]:
    return [f"{path}: {n} lines" for path, text in files.items() if (n := len(text.splitlines())) > limit]


def without_check(files: Sources) -> list[str]:
    """Test functions in which nothing can fail: no assert, no pytest.raises or warns, no helper that asserts.

    A helper is a function of the same file that checks something itself, or one whose name says so (assert_allclose,
    check_op, gradcheck).
    """
    violations = []
    for path, source in files.items():
        functions = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
        checking: set[str] = set()

        def checks(function: ast.AST, checking: set[str] = checking) -> bool:
            for node in ast.walk(function):
                called = ast.unparse(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""
                if isinstance(node, ast.Assert) or called in checking | {"raises", "warns", "gradcheck"}:
                    return True
                if called.startswith(("assert", "check")):
                    return True
            return False

        while grown := {f.name for f in functions if f.name not in checking and checks(f)}:
            checking |= grown
        violations += [f"{path}: {f.name}" for f in functions if f.name.startswith("test") and f.name not in checking]
    return violations


def shared_names(paths: list[str]) -> list[str]:
    """File names of test modules that occur in more than one folder."""
    counts = Counter(Path(path).name for path in paths if Path(path).name.startswith("test_"))
    return sorted(name for name, count in counts.items() if count > 1)


# ---------------------------------------------------------------------------------------- the rules hold in the project
PACKAGES = sources("minigrad", "minitransformer")
TESTS = sources("tests")
EVERYTHING = PACKAGES | TESTS | sources("tutorials")


@pytest.mark.parametrize("rule", [upward_imports, cycles, late_imports, late_attachments, uses_of_internals])
def test_the_packages_keep(rule):
    assert rule(PACKAGES) == []


def test_the_sources_are_found():
    assert {"minigrad/core.py", "minigrad/ops/softmax.py", "minitransformer/cli.py"} <= set(PACKAGES)
    assert "tests/test_structure.py" in TESTS


def test_torch_is_imported_by_the_oracle_and_the_benchmarks_only():
    assert torch_imports(EVERYTHING) == []


def test_no_file_is_too_long():
    assert too_long(EVERYTHING, MAX_LINES) == []


def test_the_engine_can_be_read_in_an_hour():
    assert sum(len(PACKAGES[path].splitlines()) for path in READ_FIRST) <= MAX_ENGINE_LINES


def test_every_test_checks_something():
    assert without_check(TESTS) == []


def test_names_of_test_modules_are_unique():
    assert shared_names(list(TESTS)) == []


def test_dependencies_are_what_the_packages_import():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    dependencies = declared(project["dependencies"])
    assert third_party(PACKAGES) - OPTIONAL == dependencies
    assert declared(project["optional-dependencies"]["text"]) >= OPTIONAL


def test_what_the_gate_installs_has_a_version():
    commands = (ROOT / ".ci/run").read_text(encoding="utf-8").replace("\\\n", "").splitlines()
    installs = [line.partition('/pip" install')[2] for line in commands]
    requirements = [word for line in installs for word in line.split() if not word.startswith("-")]
    assert len(requirements) == 5
    assert [word for word in requirements if "==" not in word] == []


def test_importing_minigrad_loads_nothing_heavy():
    code = "import sys, minigrad; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert "minigrad.core" in loaded.split()
    assert set(loaded.split()).isdisjoint({"numba", "graphviz", "matplotlib", "torch", "num2words", "rich", "typer"})


# ------------------------------------------------------------------------------ the rules find what is planted for them
MINIGRAD = {
    "minigrad/__init__.py": "from . import kernels, nn\nfrom .tensor import Tensor\n",
    "minigrad/core.py": "class Node:\n    __slots__ = ('_private',)\n",
    "minigrad/op.py": "from typing import TYPE_CHECKING\nfrom .core import Node\n"
    "if TYPE_CHECKING:\n    from .tensor import Tensor\n",
    "minigrad/kernels/__init__.py": "from . import reference\ndef use():\n    from . import simd\n",
    "minigrad/kernels/reference.py": "import numpy as np\n",
    "minigrad/kernels/simd.py": "import numba\n",
    "minigrad/ops/__init__.py": "from .. import kernels\nfrom ..op import op\n",
    "minigrad/tensor.py": "from . import ops\nclass Tensor: ...\n",
    "minigrad/nn/__init__.py": "from .module import Module\nfrom . import functional\n",
    "minigrad/nn/functional.py": "from .. import ops\n",
    "minigrad/nn/module.py": "class Module:\n    def __init__(self): self._modules = {}\n",
}


@pytest.mark.parametrize("rule", [upward_imports, cycles, late_imports, late_attachments, uses_of_internals])
def test_rules_pass_a_sound_project(rule):
    user = "import os\nimport minigrad as mg\nfrom minigrad.nn import functional as F\nmg.nn.Module; os._exit\n"
    assert rule(MINIGRAD | {"minitransformer/model.py": user}) == []


@pytest.mark.parametrize(
    ("rule", "path", "source"),
    [
        (upward_imports, "minigrad/kernels/simd.py", "from .. import ops"),
        (upward_imports, "minigrad/kernels/simd.py", "from ..core import Node"),
        (upward_imports, "minigrad/core.py", "from . import op"),
        (upward_imports, "minigrad/core.py", "import minigrad"),
        (upward_imports, "minigrad/ops/softmax.py", "from ..tensor import Tensor"),
        (upward_imports, "minigrad/ops/softmax.py", "from minigrad import Tensor"),
        (upward_imports, "minigrad/tensor.py", "def f():\n    from .nn import functional"),
        (upward_imports, "minigrad/tensor.py", "import importlib\nimportlib.import_module('minigrad.nn')"),
        (upward_imports, "minigrad/nn/utils.py", "from ..optim import Adam"),
        (upward_imports, "minigrad/random.py", "from .tensor import Tensor"),
        (upward_imports, "minigrad/newcomer.py", "from . import core"),
        (cycles, "minigrad/kernels/reference.py", "from . import use"),
        (cycles, "minigrad/nn/functional.py", "from .module import Module\nfrom . import Module"),
        (late_imports, "minigrad/tensor.py", "def f():\n    from . import ops"),
        (late_imports, "minigrad/tensor.py", "f = lambda: __import__('json')"),
        (late_imports, "minigrad/kernels/__init__.py", "def use():\n    from . import reference"),
        (late_imports, "minitransformer/cli.py", "class C:\n    async def f(self):\n        import typer"),
        (late_attachments, "minigrad/nn/functional.py", "from ..tensor import Tensor\nTensor.relu = lambda x: x"),
        (late_attachments, "minigrad/nn/functional.py", "from .. import tensor\nsetattr(tensor, 'x', 1)"),
        (uses_of_internals, "minitransformer/model.py", "from minigrad.core import Node"),
        (uses_of_internals, "minitransformer/model.py", "from minigrad import core"),
        (uses_of_internals, "minitransformer/model.py", "import minigrad.core"),
        (uses_of_internals, "minitransformer/model.py", "from minigrad.nn.module import Module"),
        (uses_of_internals, "minitransformer/model.py", "from minigrad.nn import _secret"),
        (uses_of_internals, "minitransformer/model.py", "import minigrad as mg\nmg.core.Node"),
        (uses_of_internals, "minitransformer/model.py", "import minigrad\nminigrad.nn._secret()"),
        (uses_of_internals, "minitransformer/model.py", "def f(model): return model._modules"),
        (uses_of_internals, "minitransformer/model.py", "def f(node): return node._private"),
        (torch_imports, "tests/test_x.py", "import torch.nn as nn"),
        (torch_imports, "tests/test_x.py", "import pytest\ndef f():\n    pytest.importorskip('torch')"),
        (without_check, "tests/test_x.py", "def test_x():\n    print(1)"),
        (without_check, "tests/test_x.py", "class TestX:\n    def test_x(self):\n        helper()\ndef helper(): ..."),
    ],
)
def test_rules_find_a_planted_violation(rule, path, source):
    assert rule(MINIGRAD | {path: source}) != []


def test_torch_may_be_imported_by_the_oracle():
    assert torch_imports({"tests/oracle.py": "import torch", "tests/benchmarks/peer.py": "import torch"}) == []


@pytest.mark.parametrize(
    "body",
    [
        "assert 1",
        "with pytest.raises(ValueError, match='x'):\n        f()",
        "np.testing.assert_allclose(1, 1)",
        "mg.testing.check_op(1)",
        "through()",
    ],
)
def test_every_way_to_check_counts(body):
    helpers = "def through():\n    same()\ndef same():\n    assert 2\n"
    assert without_check({"tests/test_x.py": f"def test_x():\n    {body}\n{helpers}"}) == []


def test_lines_are_counted():
    assert too_long({"a.py": "x\n" * 3, "b.py": "x\n" * 4}, 3) == ["b.py: 4 lines"]


def test_equal_names_of_test_modules_are_found():
    assert shared_names(["tests/test_a.py", "tests/more/test_a.py", "tests/test_b.py"]) == ["test_a.py"]


def test_third_party_imports_are_found_wherever_they_are():
    files = {
        "minigrad/a.py": "import os, numpy.random\ndef f():\n    from rich.table import Table\n    from . import b"
    }
    assert third_party(files) == {"numpy", "rich"}


def test_requirements_are_read():
    assert declared(["numpy>=2.0", "num2words", "graphviz-pure<0.3", "pyright[nodejs]==1"]) == {
        "numpy",
        "num2words",
        "graphviz_pure",
        "pyright",
    }
