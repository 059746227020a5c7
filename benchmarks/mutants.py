"""Mutants: small changes of a module, each of which a test of the module should notice.

    PYTHONPATH=. python benchmarks/mutants.py combine graph_coloring
    PYTHONPATH=. python benchmarks/mutants.py all

A mutant swaps a comparison, shifts a number by one, exchanges ``and`` and ``or``, ``min`` and
``max``, removes a ``not``, a sort or a statement, and so on. The tests of a module run once as they
are, in one process; then a child is forked for each mutant, in which the code of its function is
replaced, and runs them until one fails. Survivors are printed, unless `equivalent_mutants.toml`,
if there is one, states why no test can notice them; a statement there that matches no survivor is
printed, too. The exit status is 0 if there are neither.

Tests that take longer than ``--longest`` seconds of CPU time are left out, and hypothesis tries
``--examples`` examples, which are the same in every run.
"""

import argparse
import ast
import contextlib
import copy
import importlib
import math
import os
import resource
import signal
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol
from hypothesis import HealthCheck, Phase, settings

REPOSITORY = Path(__file__).parents[1]
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.toml")

JOINS = "tests/end_to_end/test_joins.py"
CAPTIONS, DEDUP, VERIFICATION = "tests/pipelines/captions", "tests/pipelines/dedup", "tests/shards"
#: The tests of each module. All modules of `shards.verification` have the tests of the package.
TESTS = {
    "pipelines.captions.combine": [f"{CAPTIONS}/test_combine.py"],
    "pipelines.captions.conflicts": [
        f"{CAPTIONS}/test_conflicts.py",
        f"{CAPTIONS}/test_combine.py",
    ],
    "pipelines.captions.graph_coloring": [f"{CAPTIONS}/test_graph_coloring.py"],
    "pipelines.captions.merge": [
        f"{CAPTIONS}/test_merge.py",
        "tests/pipelines/beam/test_shard_builder.py",
        JOINS,
    ],
    "pipelines.captions.spans": [f"{CAPTIONS}/test_spans.py"],
    "pipelines.dedup.eval_exclusion": [
        f"{DEDUP}/test_eval_exclusion.py",
        "tests/pipelines/test_exclusion_checks.py",
        JOINS,
    ],
    "pipelines.dedup.image_registry": [f"{DEDUP}/test_image_registry.py", JOINS],
    "pipelines.dedup.near_duplicates": [f"{DEDUP}/test_near_duplicates.py"],
    "schemas.graphemes": [
        f"{CAPTIONS}/test_spans.py",
        "tests/shards/verification/test_sample_checks.py",
    ],
    "shards.box_overlap": ["tests/shards/test_box_overlap.py"],
}
TESTS |= {
    f"shards.verification.{path.stem}": ["tests/shards/verification"]
    for path in sorted((REPOSITORY / "shards/verification").glob("[a-z]*.py"))
}


# --- mutants --------------------------------------------------------------------------------------

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
_CALLS = {"min": "max", "max": "min", "any": "all", "all": "any", "sorted": "list"}
#: Statements that can be left out. Other assignments would only be missing names.
_REMOVABLE = (ast.Expr, ast.AugAssign, ast.Continue, ast.Break, ast.Raise, ast.Delete)


def _changed(node: Any, **fields: Any) -> Any:
    """Returns a copy of a node with other fields."""
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return ast.copy_location(changed, node)


def _replacements(node: ast.AST) -> Iterator[ast.AST]:
    """Yields what a node of a syntax tree may be replaced by."""
    yield from _of_expression(node)
    yield from _of_condition(node)
    if isinstance(node, ast.Call):
        yield from _of_call(node)
    is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    if isinstance(node, _REMOVABLE) and not is_docstring:
        yield ast.copy_location(ast.Pass(), node)


def _of_expression(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Compare():
            for i, op in enumerate(node.ops):
                ops = [*node.ops[:i], _COMPARISONS[type(op)](), *node.ops[i + 1 :]]
                yield _changed(node, ops=ops)
        case ast.Constant(value=bool()):
            yield _changed(node, value=not node.value)
        case ast.Constant(value=int() | float()):
            yield _changed(node, value=node.value + 1)
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert()):
            yield node.operand
        case ast.BinOp() | ast.AugAssign() if type(node.op) in _OPERATORS:
            yield _changed(node, op=_OPERATORS[type(node.op)]())
        case ast.Lambda(body=ast.Tuple(elts=[first, second, *rest])):
            yield _changed(node, body=_changed(node.body, elts=[second, first, *rest]))


def _of_condition(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.BoolOp():
            yield _changed(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
            for i in range(len(node.values)):
                values = [*node.values[:i], *node.values[i + 1 :]]
                yield _changed(node, values=values) if len(values) > 1 else values[0]
        case ast.IfExp() | ast.If() | ast.While():
            if not isinstance(node.test, ast.Compare | ast.BoolOp | ast.UnaryOp):
                yield _changed(node, test=ast.UnaryOp(ast.Not(), node.test))
        case ast.comprehension():
            for i in range(len(node.ifs)):
                yield _changed(node, ifs=[*node.ifs[:i], *node.ifs[i + 1 :]])


def _of_call(node: ast.Call) -> Iterator[ast.AST]:
    if isinstance(node.func, ast.Name) and node.func.id in _CALLS:
        func = ast.Name(_CALLS[node.func.id], ast.Load())
        keywords = [] if node.func.id == "sorted" else node.keywords
        yield _changed(node, func=func, keywords=keywords)
    for i, keyword in enumerate(node.keywords):
        if keyword.arg in ("key", "reverse", "default"):
            yield _changed(node, keywords=[*node.keywords[:i], *node.keywords[i + 1 :]])


@dataclass
class Mutant:
    """A module with one change, of the function or of the constant ``name``."""

    module: str
    name: str
    line: int
    before: str
    after: str
    tree: ast.Module = field(repr=False)

    def __str__(self) -> str:
        return f"{self.module}.{self.name}: {self.before} -> {self.after}"


def mutants(module: str, source: str) -> Iterator[Mutant]:
    """Yields the mutants of the functions and of the numbers of a module."""
    tree = ast.parse(source)
    for statement in tree.body:
        match statement:
            case ast.FunctionDef(name=name):
                yield from _mutants(module, name, tree, statement)
            case ast.ClassDef(name=name):
                for method in statement.body:
                    if isinstance(method, ast.FunctionDef):
                        yield from _mutants(module, f"{name}.{method.name}", tree, method)
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant()):
                yield from _mutants(module, name, tree, statement)


def _mutants(module: str, name: str, tree: ast.Module, root: ast.stmt) -> Iterator[Mutant]:
    for parent, attribute, index, node in _children(root):
        for replacement in _replacements(node):
            value = getattr(parent, attribute)
            if index is None:
                setattr(parent, attribute, replacement)
            else:
                value[index] = replacement
            mutated = ast.fix_missing_locations(copy.deepcopy(tree))
            if index is None:
                setattr(parent, attribute, value)
            else:
                value[index] = node
            line = getattr(node, "lineno", getattr(parent, "lineno", root.lineno))
            yield Mutant(module, name, line, _text(node), _text(replacement), mutated)


def _text(node: ast.AST) -> str:
    """Returns the code of a node, of a compound statement without its body."""
    if isinstance(node, ast.If | ast.While):
        node = _changed(node, body=[ast.Expr(ast.Constant(...))], orelse=[])
    return " ".join(ast.unparse(ast.fix_missing_locations(copy.deepcopy(node))).split())


def _children(root: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    """Yields all nodes below a node with their places; not those of annotations and messages."""
    for attribute, value in ast.iter_fields(root):
        if attribute in ("annotation", "returns", "decorator_list") or isinstance(root, ast.Raise):
            continue
        for index, node in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(node, ast.AST) and not isinstance(node, ast.JoinedStr):
                yield root, attribute, index if isinstance(value, list) else None, node
                yield from _children(node)


# --- replacing the code of a module ---------------------------------------------------------------


def install(mutant: Mutant) -> None:
    """Replaces the code of the mutant's function, or its constant wherever it was imported."""
    module = importlib.import_module(mutant.module)
    namespace: dict[str, Any] = {"__name__": mutant.module, "__file__": module.__file__}
    path = str(module.__file__)
    changed = ModuleType(mutant.module)
    changed.__dict__.update(namespace)
    exec(compile(mutant.tree, path, "exec"), changed.__dict__)
    old, new = _lookup(module, mutant.name), _lookup(changed, mutant.name)
    if isinstance(old, FunctionType):
        code: CodeType = new.__code__
        old.__code__ = code
        old.__defaults__, old.__kwdefaults__ = new.__defaults__, new.__kwdefaults__
        return
    for name, other in list(sys.modules.items()):
        if name.split(".")[0] in ("pipelines", "schemas", "shards", "tests"):
            for attribute, value in list(vars(other).items()):
                if attribute == mutant.name and value is old:
                    setattr(other, attribute, new)


def _lookup(module: ModuleType, name: str) -> Any:
    """Returns a constant or the plain function of a function, a method or a property."""
    value: Any = module
    for attribute in name.split("."):
        value = vars(value)[attribute]
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    if isinstance(value, property):
        value = value.fget
    return getattr(value, "__wrapped__", value)


# --- running the tests ----------------------------------------------------------------------------


class Runner:
    """A plugin of pytest that runs the tests as they are, and then for each mutant in a child."""

    def __init__(self, module: str, longest: float, examples: int) -> None:
        self.module, self.longest, self.examples = module, longest, examples
        self.survivors: list[Mutant] = []
        self.made = self.timeouts = 0
        self.failing: list[pytest.Item] = []

    def pytest_collection(self) -> None:
        settings.register_profile(
            "mutants",
            max_examples=self.examples,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.generate],  # a failure need not be shrunk
        )
        settings.load_profile("mutants")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        durations: dict[pytest.Item, float] = {}
        for item, following in _pairs(session.items):
            started = time.process_time()
            reports = runtestprotocol(item, nextitem=following, log=False)
            durations[item] = time.process_time() - started
            if any(report.failed for report in reports):
                self.failing.append(item)
        items = [
            item
            for item in session.items
            if durations[item] <= self.longest and item not in self.failing
        ]
        items.sort(key=durations.__getitem__)
        limits = {item: math.ceil(10 + 10 * durations[item]) for item in items}
        spec = importlib.import_module(self.module)
        source = Path(str(spec.__file__)).read_text(encoding="utf-8")
        for mutant in mutants(self.module, source):
            self.made += 1
            killer = self._run(mutant, session, items, limits)
            if killer is None:
                self.survivors.append(mutant)
            elif killer < 0:
                self.timeouts += 1
            else:  # the test that noticed this mutant is likely to notice the next one
                items.insert(0, items.pop(killer))
        return True

    def _run(
        self,
        mutant: Mutant,
        session: pytest.Session,
        items: list[pytest.Item],
        limits: dict[pytest.Item, int],
    ) -> int | None:
        """Returns the index of the test that fails, -1 if one does not end, None if none fails.

        The limits are CPU seconds of each test, because other work makes tests take longer.
        """
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            result = b"0"
            try:
                result = _first_failure(mutant, session, items, limits)
            finally:
                os.write(writer, result)
                os._exit(0)
        os.close(writer)
        deadline = time.monotonic() + 60 + 3 * sum(limits.values())  # if it waits forever
        while os.waitpid(child, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                break
            time.sleep(0.005)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what its tests started
        with os.fdopen(reader, "rb") as pipe:
            answer = pipe.read()
        if answer == b"none":
            return None
        return int(answer) if answer else -1


def _pairs(items: list[pytest.Item]) -> list[tuple[pytest.Item, pytest.Item]]:
    """Pairs each item with the next one, the last with the first: sessions' fixtures stay."""
    return list(zip(items, [*items[1:], *items[:1]], strict=True))


def _first_failure(
    mutant: Mutant,
    session: pytest.Session,
    items: list[pytest.Item],
    limits: dict[pytest.Item, int],
) -> bytes:
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    install(mutant)
    session._setupstate.teardown_exact(items[0])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard_limit = resource.getrlimit(resource.RLIMIT_CPU)
    for index, (item, following) in enumerate(_pairs(items)):
        soft_limit = math.ceil(time.process_time()) + limits[item]
        resource.setrlimit(resource.RLIMIT_CPU, (soft_limit, hard_limit))
        reports = runtestprotocol(item, nextitem=following, log=False)
        if any(report.failed for report in reports):
            return str(index).encode()
    return b"none"


def check(runner: Runner, reasons: dict[str, str], log: Callable[[str], None]) -> bool:
    """Runs the mutants of one module; returns whether none survives without a reason."""
    module = runner.module
    started = time.perf_counter()
    log(f"{module}")
    known: set[str] = set()
    unexplained: list[Mutant] = []
    options = ["-p", "no:cacheprovider", "-p", "no:terminal", "-o", "addopts="]
    pytest.main([*options, *TESTS[module]], plugins=[runner])
    for item in runner.failing:
        log(f"  fails without a mutant: {item.nodeid}")
    for mutant in runner.survivors:
        if str(mutant) in reasons:
            known.add(str(mutant))
        else:
            unexplained.append(mutant)
            log(f"  survives, line {mutant.line}: {mutant}")
    outdated = {text for text in reasons if text.startswith(f"{module}.")} - known
    for text in sorted(outdated):
        log(f"  stated to be equivalent, but no survivor: {text}")
    equivalent = len(runner.survivors) - len(unexplained)
    killed = runner.made - len(runner.survivors)
    log(
        f"  {runner.made} mutants: {killed} killed ({runner.timeouts} by time), {equivalent} "
        f"equivalent, {len(unexplained)} survive; {time.perf_counter() - started:.0f} s"
    )
    return bool(killed) and not (runner.failing or unexplained or outdated)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("modules", nargs="+", help="the last part of a module's name, or all")
    parser.add_argument("--longest", type=float, default=2.0, help="CPU seconds; default 2")
    parser.add_argument("--examples", type=int, default=30, help="of hypothesis; default 30")
    arguments = parser.parse_args()
    chosen = [m for m in TESTS if {m, m.rpartition(".")[2], "all"} & set(arguments.modules)]
    stated = tomllib.loads(EQUIVALENT.read_text(encoding="utf-8")) if EQUIVALENT.exists() else {}
    reasons = {row["mutant"]: row["reason"] for row in stated.get("equivalent", [])}
    succeeded = True
    for module in chosen:
        # A process for each module, so that modules are imported once as they are.
        child = os.fork()
        if child == 0:
            with os.fdopen(os.dup(1), "a", encoding="utf-8") as file:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

                def log(line: str, file: Any = file) -> None:
                    print(line, file=file, flush=True)

                runner = Runner(module, arguments.longest, arguments.examples)
                is_clean = check(runner, reasons, log)
            os._exit(0 if is_clean else 1)
        succeeded &= os.waitpid(child, 0)[1] == 0
    sys.exit(0 if succeeded else 1)


if __name__ == "__main__":
    main()
