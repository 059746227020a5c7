"""Mutants: small changes of a module, each of which a test of the module should notice.

    PYTHONPATH=. python benchmarks/mutants.py combine graph_coloring
    PYTHONPATH=. python benchmarks/mutants.py all

A mutant swaps a comparison, shifts a number by one, exchanges ``and`` and ``or``, ``min`` and
``max``, removes a ``not``, a sort or a statement, and so on. The tests of a module run once as they
are, in one process, with a record of the statements that each executes; then a child is forked for
each mutant, in which the code of its function is replaced, and runs the tests that execute the
mutated statement until one fails. Survivors are printed, unless
`equivalent_mutants.toml`, if there is one, states why no test can notice them; an entry there that
matches no survivor is printed, too. The exit status is 0 if there are neither.

Tests that take longer than ``--longest`` seconds of CPU time are left out, and hypothesis tries
``--examples`` examples, which are the same in every run. A mutant that no test has noticed after
``--budget`` CPU seconds is undecided: a later test might. Of a large module, ``--sample`` mutants
may be chosen, the same in every run. The first test is the fastest of those that execute the same
statements of the module, and of these tests, one that executes what few others do. So a mutant
that is said to be killed is, and one that survives may be by a slow test.
"""

import argparse
import ast
import contextlib
import copy
import functools
import gc
import importlib
import math
import mmap
import os
import random
import resource
import signal
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

import pytest
from _pytest.runner import runtestprotocol
from hypothesis import HealthCheck, Phase, settings

REPOSITORY = Path(__file__).parents[1]
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.toml")

JOINS = "tests/end_to_end/test_joins.py"
CAPTIONS, DEDUP = "tests/pipelines/captions", "tests/pipelines/dedup"
#: The tests of each module; those that several modules have run as they are once for all of them.
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
    "schemas.graphemes": ["tests/schemas/test_graphemes.py", f"{CAPTIONS}/test_spans.py"],
    "shards.box_overlap": ["tests/shards/test_box_overlap.py"],
}
_VERIFICATION = "tests/shards/verification"
_OF_SAMPLES = [f"{_VERIFICATION}/test_caption_checks.py", f"{_VERIFICATION}/test_sample_checks.py"]
TESTS |= {
    "shards.verification.held_out": [f"{_VERIFICATION}/test_held_out.py"],
    "shards.verification.license_checks": [f"{_VERIFICATION}/test_license_checks.py"],
    "shards.verification.placement_checks": [f"{_VERIFICATION}/test_placement_checks.py"],
    "shards.verification.table_checks": [f"{_VERIFICATION}/test_table_checks.py"],
    "shards.verification.errors": [f"{_VERIFICATION}/test_errors.py"],
    "shards.verification.result": [f"{_VERIFICATION}/test_errors.py"],
    "shards.verification.spans": _OF_SAMPLES,
    "shards.verification.datasets": _OF_SAMPLES,
    "shards.verification.caption_checks": _OF_SAMPLES,
    "shards.verification.sample_checks": _OF_SAMPLES,
    "shards.verification.absent_checks": [f"{_VERIFICATION}/test_absent_checks.py"],
    "shards.verification.count_checks": [f"{_VERIFICATION}/test_count_checks.py"],
    "shards.verification.identity_checks": [f"{_VERIFICATION}/test_identity_checks.py"],
    "shards.verification.shard_checks": [
        f"{_VERIFICATION}/test_shard_checks.py",
        f"{_VERIFICATION}/test_corrupted_samples.py",
    ],
    "shards.verification.verify": [
        f"{_VERIFICATION}/test_verify.py",
        f"{_VERIFICATION}/test_raw.py",
    ],
    "shards.verification.recipe": [f"{_VERIFICATION}/test_recipe.py"],
    "shards.verification.set_checks": [f"{_VERIFICATION}/test_set_checks.py"],
    "shards.verification.raw_comparison": [f"{_VERIFICATION}/test_raw.py"],
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
    """A module with one change, of the function or of the constant ``name``.

    ``statements`` are the first lines of the changed statement, or of those that read the constant;
    ``lines`` are those of the function, or of the module.
    """

    module: str
    name: str
    lines: range
    line: int
    statements: frozenset[int]
    before: str
    after: str
    tree: ast.Module = field(repr=False)

    def __str__(self) -> str:
        return f"{self.module}.{self.name}: {self.before} -> {self.after}"


def mutants(module: str, source: str) -> Iterator[Mutant]:
    """Yields the mutants of the functions and of the numbers of a module."""
    tree = ast.parse(source)
    for name, function in _functions(tree):
        yield from _mutants(module, name, tree, function)
    for name, constant in _constants(tree):
        yield from _mutants(module, name, tree, constant)


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Yields the functions and the methods of a module with their names."""
    for statement in tree.body:
        match statement:
            case ast.FunctionDef(name=name):
                yield name, statement
            case ast.ClassDef(name=name):
                for method in statement.body:
                    if isinstance(method, ast.FunctionDef):
                        yield f"{name}.{method.name}", method


def _constants(tree: ast.Module) -> Iterator[tuple[str, ast.Assign]]:
    """Yields the numbers of a module with their names."""
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant()):
                yield name, statement


def _mutants(
    module: str, name: str, tree: ast.Module, root: ast.FunctionDef | ast.Assign
) -> Iterator[Mutant]:
    """Yields the mutants of a function or of a constant.

    All have one tree, which is that of a mutant until the next is taken.
    """
    whole = root if isinstance(root, ast.FunctionDef) else tree.body[-1]
    lines = range(root.lineno, (whole.end_lineno or whole.lineno) + 1)
    readers = _readers(tree, name)
    for parent, attribute, index, node, statement in list(_children(root, root)):
        for replacement in _replacements(node):
            line = getattr(node, "lineno", getattr(parent, "lineno", root.lineno))
            is_constant = isinstance(root, ast.Assign)
            statements = readers if is_constant else frozenset([statement.lineno])
            before, after = _text(node), _text(replacement)
            _put(parent, attribute, index, replacement)
            ast.fix_missing_locations(tree)
            yield Mutant(module, name, lines, line, statements, before, after, tree)
            _put(parent, attribute, index, node)


def _put(parent: ast.AST, attribute: str, index: int | None, node: ast.AST) -> None:
    if index is None:
        setattr(parent, attribute, node)
    else:
        getattr(parent, attribute)[index] = node


def _readers(tree: ast.Module, name: str) -> frozenset[int]:
    """Returns the first lines of the statements of functions that read a name."""
    return frozenset(
        statement.lineno
        for _, function in _functions(tree)
        for *_, node, statement in _children(function, function)
        if isinstance(node, ast.Name) and node.id == name
    )


def _text(node: ast.AST) -> str:
    """Returns the code of a node, of a compound statement without its body."""
    if isinstance(node, ast.If | ast.While):
        node = _changed(node, body=[ast.Expr(ast.Constant(...))], orelse=[])
    return " ".join(ast.unparse(ast.fix_missing_locations(copy.deepcopy(node))).split())


def _children(
    root: ast.AST, statement: ast.stmt
) -> Iterator[tuple[ast.AST, str, int | None, ast.AST, ast.stmt]]:
    """Yields all nodes below a node with their places.

    Not those of annotations and messages, nor `strict` of `zip`, which makes no difference without
    another mistake.

    With each node comes the innermost statement that it is or is in, of ``root`` ``statement``.
    """
    for attribute, value in ast.iter_fields(root):
        if attribute in ("annotation", "returns", "decorator_list") or isinstance(root, ast.Raise):
            continue
        for index, node in enumerate(value if isinstance(value, list) else [value]):
            is_strict = isinstance(node, ast.keyword) and node.arg == "strict"
            if isinstance(node, ast.AST) and not (isinstance(node, ast.JoinedStr) or is_strict):
                inner = node if isinstance(node, ast.stmt) else statement
                yield root, attribute, index if isinstance(value, list) else None, node, inner
                yield from _children(node, inner)


# --- replacing the code of a module ---------------------------------------------------------------


def install(mutant: Mutant) -> None:
    """Replaces the code of the mutant's function, or its constant wherever it was imported."""
    module = importlib.import_module(mutant.module)
    changed = _executed(module, mutant.tree)
    old, new = _lookup(module, mutant.name), _lookup(changed, mutant.name)
    if isinstance(old, FunctionType):
        _replace_code(old, new)
        return
    for other in _project_modules():
        for attribute, value in list(vars(other).items()):
            if attribute == mutant.name and value is old:
                setattr(other, attribute, new)


def _executed(module: ModuleType, tree: ast.Module) -> ModuleType:
    """Executes a changed module as one of the same name; returns it."""
    path = str(module.__file__)
    changed = ModuleType(module.__name__)
    changed.__dict__.update({"__name__": module.__name__, "__file__": path})
    exec(compile(tree, path, "exec"), changed.__dict__)
    return changed


def _replace_code(old: FunctionType, new: FunctionType) -> None:
    code: CodeType = new.__code__
    old.__code__ = code
    old.__defaults__, old.__kwdefaults__ = new.__defaults__, new.__kwdefaults__


def _project_modules() -> Iterator[ModuleType]:
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in ("pipelines", "schemas", "shards", "tests"):
            yield module


def _clear_caches() -> None:
    """Forgets results of functions, which a mutant of theirs would not have returned."""
    for module in _project_modules():
        for value in list(vars(module).values()):
            if isinstance(value, functools._lru_cache_wrapper):
                value.cache_clear()


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


# --- the statements that a test executes ----------------------------------------------------------

_RECORD = "_executed_lines"


class StatementRecord:
    """Which statements of the functions of a module were executed, also in forked processes."""

    def __init__(self, name: str) -> None:
        """Replaces the code of all functions by code that records the lines of its statements."""
        module = importlib.import_module(name)
        source = _source(module)
        self._lines = mmap.mmap(-1, source.count("\n") + 1)
        tree = ast.parse(source)
        for _, function in _functions(tree):
            _RecordLines().visit(function)
            function.body.insert(0, _record(function))  # for its defaults
        recording = _executed(module, ast.fix_missing_locations(tree))
        vars(module)[_RECORD] = self._lines
        for function_name, _ in _functions(tree):
            old, new = _lookup(module, function_name), _lookup(recording, function_name)
            _replace_code(old, new)

    def take(self) -> frozenset[int]:
        """Returns the first lines of the statements that were executed since the last call."""
        lines = frozenset(line for line, executed in enumerate(self._lines[:]) if executed)
        self._lines[:] = bytes(len(self._lines))
        return lines


class _RecordLines(ast.NodeTransformer):
    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for attribute in ("body", "orelse", "finalbody"):
            block = getattr(node, attribute, None)
            if isinstance(block, list):  # not the expression of a lambda
                setattr(node, attribute, [s for old in block for s in (_record(old), old)])
        return node


def _record(statement: ast.stmt) -> ast.stmt:
    return ast.parse(f"{_RECORD}[{statement.lineno}] = 1").body[0]


def _source(module: ModuleType) -> str:
    return Path(str(module.__file__)).read_text(encoding="utf-8")


# --- running the tests ----------------------------------------------------------------------------


class Report:
    """Counts the mutants of a module, and prints the survivors that have no reason."""

    def __init__(self, module: str, reasons: dict[str, str], log: Callable[[str], None]) -> None:
        self.module, self.log = module, log
        self.reasons = {text for text in reasons if text.startswith(f"{module}.")}
        self.explained: list[str] = []
        self.killed = self.timeouts = self.unexplained = self.undecided = 0
        self.started = time.perf_counter()
        log(module)

    def add(self, mutant: Mutant, outcome: "Outcome") -> None:
        """Counts a mutant."""
        if outcome.is_killed:
            self.killed += 1
            self.timeouts += outcome.killer is None
        elif str(mutant) in self.reasons:
            self.explained.append(str(mutant))
        else:
            self.unexplained += 1
            self.undecided += outcome.is_undecided
            of_tests = f"undecided after {outcome.tests}" if outcome.is_undecided else outcome.tests
            self.log(f"  survives, line {mutant.line}, tests: {of_tests}: {mutant}")

    def is_clean(self) -> bool:
        """Prints the counts; returns whether none survives without a reason."""
        outdated = self.reasons.difference(self.explained)
        for text in sorted(outdated):
            self.log(f"  stated to be equivalent, but no survivor: {text}")
        self.log(
            f"  {self.killed + len(self.explained) + self.unexplained} mutants: {self.killed} "
            f"killed ({self.timeouts} by time), {len(self.explained)} equivalent, "
            f"{self.unexplained} survive ({self.undecided} of them undecided); "
            f"{time.perf_counter() - self.started:.0f} s"
        )
        return bool(self.killed) and not (self.unexplained or outdated)


class _Answer:
    """What a child says about a test, or last. A child whose test does not end says nothing."""

    PASSED, FAILED, ALL_PASSED, OUT_OF_BUDGET = b"p", b"f", b"e", b"b"


_LONGEST_WAIT = 300  # seconds without CPU time of a test that waits for something


class Outcome(NamedTuple):
    """What the tests of a mutant came to, of which ``tests`` ended.

    ``killer`` is the index of the test that fails; none if one does not end.
    """

    tests: int
    killer: int | None = None
    is_killed: bool = False
    is_undecided: bool = False


class Baseline:
    """The tests as they are: CPU seconds of each, and the statements that it executes.

    A statement is a module and a line.
    """

    def __init__(self) -> None:
        self.durations: dict[pytest.Item, float] = {}
        self._statements: dict[pytest.Item, list[tuple[str, int]]] = {}
        self._counts: Counter[tuple[str, int]] = Counter()

    def add(self, item: pytest.Item, duration: float, statements: list[tuple[str, int]]) -> None:
        self.durations[item] = duration
        self._statements[item] = statements
        self._counts.update(statements)

    def tests_of(self, mutant: Mutant, items: Sequence[pytest.Item]) -> list[pytest.Item]:
        """Returns those of some tests that execute what a mutant changes.

        Of tests that execute the same statements of the module, the first of ``items`` comes first,
        then the second of each, and so on. Before others are those that execute statements that few
        tests do, in the function, else in the module: such as what is done about an error that it
        looks for. They are all if only other modules read a constant.
        """
        if not mutant.statements:
            return list(items)
        order: dict[pytest.Item, tuple[int, int, int]] = {}
        repeated: Counter[frozenset[tuple[str, int]]] = Counter()
        for item in items:
            of_module = frozenset(s for s in self._statements[item] if s[0] == mutant.module)
            of_function = {s for s in of_module if s[1] in mutant.lines}
            if not mutant.statements.isdisjoint(line for _, line in of_function):
                rarest = min(self._counts[s] for s in of_function)
                rarest_of_module = min(self._counts[s] for s in of_module)
                order[item] = repeated[of_module], rarest, rarest_of_module
                repeated[of_module] += 1
        return sorted(order, key=order.__getitem__)


class Runner:
    """A plugin of pytest that runs the tests as they are, and then for each mutant in a child.

    ``modules`` have the same tests.
    """

    def __init__(
        self,
        modules: Sequence[str],
        arguments: argparse.Namespace,
        reasons: dict[str, str],
        log: Callable[[str], None],
    ) -> None:
        self.modules, self.reasons, self.log = modules, reasons, log
        self.longest, self.examples = arguments.longest, arguments.examples
        self.budget, self.sample = arguments.budget, arguments.sample
        self.is_clean = False
        self._durations: dict[pytest.Item, float] = {}

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
        started = time.perf_counter()
        baseline = self._run_unchanged(session)
        items = sorted(baseline.durations, key=baseline.durations.__getitem__)
        limits = {item: math.ceil(4 + 4 * baseline.durations[item]) for item in items}
        self.log(
            f"{len(items)} of {len(session.items)} tests, as they are: "
            f"{time.perf_counter() - started:.0f} s, of which the tests "
            f"{sum(baseline.durations.values()):.1f} CPU s"
        )
        gc.freeze()  # so that collections in the children copy no memory
        for module in self.modules:
            report = Report(module, self.reasons, self.log)
            source = _source(importlib.import_module(module))
            count = sum(1 for _ in mutants(module, source))
            chosen = set(random.Random(0).sample(range(count), min(count, self.sample)))
            for number, mutant in enumerate(mutants(module, source)):
                if number not in chosen:
                    continue
                tests = baseline.tests_of(mutant, items)
                outcome = self._run(mutant, session, tests, limits) if tests else Outcome(0)
                report.add(mutant, outcome)
                if outcome.killer is not None:
                    # It is likely to notice the next one, too.
                    items.remove(tests[outcome.killer])
                    items.insert(0, tests[outcome.killer])
            self.is_clean &= report.is_clean()
        return True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None]:
        """Measures a test without its fixtures, which may be those of a session."""
        started = time.process_time()
        try:
            yield
        finally:
            self._durations[item] = time.process_time() - started

    def _run_unchanged(self, session: pytest.Session) -> "Baseline":
        records = {module: StatementRecord(module) for module in self.modules}
        baseline = Baseline()
        self.is_clean = True
        for item, following in _pairs(session.items):
            _clear_caches()
            reports = runtestprotocol(item, nextitem=following, log=False)
            statements = [(name, line) for name, r in records.items() for line in r.take()]
            if any(report.failed for report in reports):
                self.is_clean = False
                self.log(f"  fails without a mutant: {item.nodeid}")
            elif item in self._durations and self._durations[item] <= self.longest:
                baseline.add(item, self._durations[item], statements)
        return baseline

    def _run(
        self,
        mutant: Mutant,
        session: pytest.Session,
        items: list[pytest.Item],
        limits: dict[pytest.Item, int],
    ) -> Outcome:
        """Runs tests of a mutant until one fails.

        The limits are CPU seconds of each test, because other work makes tests take longer.
        """
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            try:
                _run_tests(mutant, session, items, limits, self.budget, writer)
            except BaseException:
                os.write(writer, _Answer.FAILED)  # the module cannot even be imported
            finally:
                os._exit(0)
        os.close(writer)
        seconds, progressed = 0.0, time.monotonic()
        while os.waitpid(child, os.WNOHANG) == (0, 0):
            if (used := _cpu_seconds(child)) != seconds:
                seconds, progressed = used, time.monotonic()
            elif time.monotonic() - progressed > _LONGEST_WAIT:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                break
            time.sleep(0.005)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what its tests started
        with os.fdopen(reader, "rb") as pipe:
            answers = pipe.read()
        passed = answers.count(_Answer.PASSED)
        match answers[-1:]:
            case _Answer.FAILED:
                return Outcome(passed, killer=passed, is_killed=True)
            case _Answer.OUT_OF_BUDGET:
                return Outcome(passed, is_undecided=True)
            case _Answer.ALL_PASSED:
                return Outcome(passed)
        return Outcome(passed, is_killed=True)


def _pairs(items: list[pytest.Item]) -> list[tuple[pytest.Item, pytest.Item]]:
    """Pairs each item with the next one, the last with the first: sessions' fixtures stay."""
    return list(zip(items, [*items[1:], *items[:1]], strict=True))


def _cpu_seconds(process: int) -> float:
    """Returns the CPU seconds of a child."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _run_tests(
    mutant: Mutant,
    session: pytest.Session,
    items: list[pytest.Item],
    limits: dict[pytest.Item, int],
    budget: float,
    writer: int,
) -> None:
    """Writes a byte for each test that passes, and one for what ended them."""
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    install(mutant)
    _clear_caches()
    session._setupstate.teardown_exact(items[0])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard_limit = resource.getrlimit(resource.RLIMIT_CPU)
    started = time.process_time()
    for item, following in _pairs(items):
        if time.process_time() - started > budget:
            os.write(writer, _Answer.OUT_OF_BUDGET)
            return
        soft_limit = math.ceil(time.process_time()) + limits[item]
        resource.setrlimit(resource.RLIMIT_CPU, (soft_limit, hard_limit))
        reports = runtestprotocol(item, nextitem=following, log=False)
        if any(report.failed for report in reports):
            os.write(writer, _Answer.FAILED)
            return
        os.write(writer, _Answer.PASSED)
    os.write(writer, _Answer.ALL_PASSED)


def run_mutants(runner: Runner, tests: Sequence[str]) -> bool:
    """Runs the mutants of modules; returns whether none survives without a reason."""
    options = ["-p", "no:cacheprovider", "-p", "no:terminal", "-o", "addopts="]
    pytest.main([*options, *tests], plugins=[runner])
    return runner.is_clean


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("modules", nargs="+", help="the last part of a module's name, or all")
    parser.add_argument("--longest", type=float, default=2.0, help="CPU seconds; default 2")
    parser.add_argument("--examples", type=int, default=30, help="of hypothesis; default 30")
    parser.add_argument(
        "--budget", type=float, default=60.0, help="CPU seconds of a mutant's tests; default 60"
    )
    parser.add_argument(
        "--sample", type=int, default=sys.maxsize, help="mutants of each module; default all"
    )
    arguments = parser.parse_args()
    stated = tomllib.loads(EQUIVALENT.read_text(encoding="utf-8")) if EQUIVALENT.exists() else {}
    reasons = {row["mutant"]: row["reason"] for row in stated.get("equivalent", [])}
    chosen: dict[tuple[str, ...], list[str]] = {}
    for module, tests in TESTS.items():
        if {module, module.rpartition(".")[2], "all"} & set(arguments.modules):
            chosen.setdefault(tuple(tests), []).append(module)
    succeeded = True
    for tests_of_modules, modules in chosen.items():
        # A process for each, so that modules are imported once as they are.
        child = os.fork()
        if child == 0:
            with os.fdopen(os.dup(1), "a", encoding="utf-8") as file:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

                def log(line: str, file: Any = file) -> None:
                    print(line, file=file, flush=True)

                runner = Runner(modules, arguments, reasons, log)
                is_clean = run_mutants(runner, tests_of_modules)
            os._exit(0 if is_clean else 1)
        succeeded &= os.waitpid(child, 0)[1] == 0
    sys.exit(0 if succeeded else 1)


if __name__ == "__main__":
    main()
