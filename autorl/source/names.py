"""A program's names for its own variables: files that differ in nothing else are one program.

    number_names(tree)      # in place: each such name becomes its number, in the order of first use

Renamed are variables, functions, classes, and parameters that nobody passes by name; never imports,
attributes, methods, keywords. Where a program may look a name up in a string (eval, globals,
getattr of a variable, …) nothing is renamed: that a copy passes for another program costs a run,
but programs that act differently must not become one.
What it does not do: follow what is made of names that Python prints (repr, tracebacks).
"""

import ast
import builtins
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

DEPTH = 50  # scopes in scopes; in a file with more nothing is renamed

_LOOKUPS = re.compile("breakpoint|compile|dir|eval|exec|globals|locals|vars|__file__|__import__")
_GETTERS = re.compile("(get|set|has|del)attr")  # harmless with a constant
_INSIDES = re.compile(  # attributes that lead from an object to names; what a class name mangles
    r"__(builtins|closure|code|dict|globals|name|qualname)__|_getframe|f_(builtins|globals|locals)"
    r"|modules|get_type_hints|singledispatch(method)?|__\w*(?<!__)"
)
# Modules that look at no name of the file, but for _KEYWORDS, by which they call what they are
# handed (gymnasium's reset, torch's walks over modules). scipy.optimize reads the signature of a
# callback ("intermediate_result"), pandas the variables of its caller.
_MODULES = re.compile(
    "__future__|abc|argparse|array|bisect|cloudpickle|cmath|collections|concurrent|contextlib|copy"
    "|csv|ctypes|dataclasses|datetime|enum|evaluate|functools|gymnasium|hashlib|heapq|io|itertools"
    "|json|logging|math|mmap|mujoco|multiprocessing|numbers|numpy|operator|os|pathlib|pickle"
    "|platform|queue|random|re|select|shutil|signal|socket|statistics|string|struct|subprocess|sys"
    "|tempfile|textwrap|threading|time|torch|typing|warnings|weakref|zlib"
)
_KEYWORDS = {"seed", "options", "prefix", "recurse", "remove_duplicate", "destination", "keep_vars"}
_HARNESS = re.compile("log_metrics|summary_block")  # evaluate's, which calls nothing of the file

_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_Declaration = ast.Global | ast.Nonlocal
_FIELDS: dict[type[ast.AST], str] = {  # where a node holds the name of a variable
    **dict.fromkeys((ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef), "name"),
    **dict.fromkeys((ast.ExceptHandler, ast.MatchAs, ast.MatchStar), "name"),
    **{ast.Name: "id", ast.arg: "arg", ast.MatchMapping: "rest"},
}


@dataclass(eq=False, slots=True)
class _Scope:
    """A block with variables of its own."""

    node: ast.AST
    parent: "_Scope | None" = None
    depth: int = 0
    bound: set[str] = field(default_factory=set)
    read: set[str] = field(default_factory=set)
    declared: dict[str, type[ast.AST]] = field(default_factory=dict)

    def home(self, name: str) -> "_Scope | None":
        """The scope whose variable `name` is here; None: a built-in's, or nobody's."""
        scope, is_global = self, False
        while scope.parent is not None:
            if not is_global and (scope is self or not isinstance(scope.node, ast.ClassDef)):
                how = scope.declared.get(name)
                if how is None and name in scope.bound:
                    return scope
                is_global = how is ast.Global
            scope = scope.parent
        return scope if name in scope.bound else None


def number_names(tree: ast.Module, called: Callable[[int], str] = str) -> int:
    """Call each variable whose name makes no difference by its number; returns how many there are.

    Args:
        called: what number n is called. The default makes no Python, and so no name of another.
    """
    nodes = list(ast.walk(tree))
    scopes, uses = _read(tree)
    if _looks_up(nodes) or max(scope.depth for scope in scopes) > DEPTH:
        return 0
    # What is imported has its name from elsewhere; `x = x` in a class body reads the module's x.
    fixed = {_bound_by(node) for node in nodes if isinstance(node, ast.alias)}
    fixed.update(*(s.bound & s.read for s in scopes if isinstance(s.node, ast.ClassDef)))
    texts = {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    words = set(re.findall(r"\w+", "\n".join(texts)))
    passed = _KEYWORDS.union(texts, (n.arg for n in nodes if isinstance(n, ast.keyword) and n.arg))
    spread = any(map(_spreads, nodes))
    keys, kept = dict[tuple[_Scope | None, str], None](), set[tuple[_Scope | None, str]]()
    for scope, node, name in uses:
        home = scope.home(name)
        keys[home, name] = None
        if (
            home is None
            or isinstance(home.node, ast.ClassDef)
            or name in fixed
            or name.startswith("__")
            or (home.parent is None and hasattr(builtins, name))  # which it is until it is bound
            or (isinstance(node, ast.ClassDef) and name in words)  # "Color.RED"
            or (isinstance(node, ast.arg) and (name in passed or spread or _may_override(home)))
        ):
            kept.add((home, name))
    numbered = {key: called(n) for n, key in enumerate(key for key in keys if key not in kept)}
    for scope, node, name in uses:
        new = numbered.get((scope.home(name), name), name)
        if isinstance(node, _Declaration):
            node.names[node.names.index(name)] = new
        else:
            setattr(node, _FIELDS[type(node)], new)
    return len(numbered)


def _looks_up(nodes: Iterable[ast.AST]) -> bool:
    """Whether a variable may be found by its name, or come from where it is not seen."""
    constant = set[ast.AST]()  # the function in getattr(x, "constant")
    for node in nodes:  # a call comes before its parts
        found = getattr(node, "type_params", None)
        match node:
            case ast.Call(func=ast.Name() as function, args=[_, ast.Constant(), *_]):
                constant.add(function)
            case ast.Name(id=name):
                found = _LOOKUPS.fullmatch(name) or (
                    _GETTERS.fullmatch(name) and node not in constant
                )
                found = found or (name != "__name__" and _INSIDES.fullmatch(name))
            case ast.Attribute(attr=name) | ast.Constant(value=str(name)) | ast.arg(arg=name):
                found = _INSIDES.fullmatch(name)
            case ast.Import(names=names):
                found = not all(_MODULES.fullmatch(each.name.split(".")[0]) for each in names)
            case ast.ImportFrom(names=names, module=module):
                found = names[0].name == "*" or not _MODULES.fullmatch((module or "").split(".")[0])
        if found:
            return True
    return False


def _read(tree: ast.Module) -> tuple[list[_Scope], list[tuple[_Scope, ast.AST, str]]]:
    """All scopes; all places that name a variable but imports, as (scope, node, name)."""
    module = _Scope(tree)
    scopes, uses = [module], list[tuple[_Scope, ast.AST, str]]()
    todo: list[tuple[ast.AST, _Scope]] = [(tree, module)]
    moved = set[ast.AST]()  # what belongs to another scope than what holds it
    for node, scope in todo:  # grows; no recursion, for a tree may be deep
        inner = outer = scope
        if isinstance(node, _Function | _Comprehension | ast.ClassDef):
            inner = _Scope(node, scope, scope.depth + 1)
            scopes.append(inner)
        elif isinstance(node, ast.NamedExpr):  # binds beyond the comprehensions around it
            while isinstance(outer.node, _Comprehension) and outer.parent:
                outer = outer.parent
        outside = _outside(node)
        moved.update(outside)
        todo += ((child, outer) for child in outside)
        todo += ((child, inner) for child in ast.iter_child_nodes(node) if child not in moved)
        if isinstance(node, _Declaration):
            uses += ((scope, node, name) for name in node.names)
            if scope is not module:
                scope.declared.update(dict.fromkeys(node.names, type(node)))
        elif isinstance(node, ast.alias):
            scope.bound.add(_bound_by(node))
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            scope.read.add(node.target.id)
        elif (name := getattr(node, _FIELDS.get(type(node), ""), None)) is not None:
            uses.append((scope, node, name))
            context = getattr(node, "ctx", None)
            if not isinstance(context, ast.Load):  # `del` binds as an assignment does
                scope.bound.add(name)
            if isinstance(context, ast.Load | ast.Del):
                scope.read.add(name)
    for scope in scopes:
        module.bound |= {n for n, how in scope.declared.items() if how is ast.Global} & scope.bound
    return scopes, uses


def _outside(node: ast.AST) -> list[ast.AST]:
    """What of a node, or of its parts, belongs to the scope around the node's own."""
    match node:
        case ast.NamedExpr():
            return [node.target]
        case ast.ClassDef():
            return [*node.decorator_list, *node.bases, *node.keywords]
        case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            return [node.generators[0].iter]
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
            a = node.args
            every = (*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg)
            found = [*a.defaults, *a.kw_defaults, *(arg.annotation for arg in every if arg)]
            found += [*getattr(node, "decorator_list", ()), getattr(node, "returns", None)]
            return [part for part in found if part is not None]
    return []


def _bound_by(node: ast.alias) -> str:
    """The name that an import binds."""
    return node.asname or node.name.split(".")[0]


def _spreads(node: ast.AST) -> bool:
    """Whether it may pass a parameter by a name that the file does not hold: f(**mapping)."""
    if isinstance(node, ast.Call) and _HARNESS.fullmatch(getattr(node.func, "id", "")):
        return False
    return isinstance(node, ast.Call) and any(each.arg is None for each in node.keywords)


def _may_override(function: _Scope) -> bool:
    """Whether it may be a method that others call, by the names that its base class gave."""
    if function.parent is None or not isinstance(cls := function.parent.node, ast.ClassDef):
        return False
    name = getattr(function.node, "name", "")
    special = name.startswith("__") and name not in ("__init__", "__call__")
    bases = {getattr(base, "attr", getattr(base, "id", "")) for base in cls.bases}
    return special or bool(cls.keywords) or not bases <= {"Module", "object"}
