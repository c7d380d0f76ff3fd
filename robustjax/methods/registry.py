"""The training methods by name: creating one, listing them, citing them."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from robustjax import own_code
from robustjax.arguments import did_you_mean, refusal, require_free_name, shown
from robustjax.errors import UserError
from robustjax.methods import (
    alp,
    cat,
    dynamic,
    fast,
    fat,
    free,
    iaat,
    lrm,
    mart,
    mart_subset,
    mma,
    nap,
    natural,
    rst,
    sense,
    standard,
    trades,
    uat,
)
from robustjax.methods.method import Method


class Entry(NamedTuple):
    """How the registry knows a method: its factory, one line about it, and its BibTeX entry."""

    factory: Callable[..., Method]
    summary: str
    citation: str


_METHODS: dict[str, Entry] = {
    "natural": Entry(natural.create, natural.SUMMARY, natural.CITATION),
    "standard": Entry(standard.create, standard.SUMMARY, standard.CITATION),
    "trades": Entry(trades.create, trades.SUMMARY, trades.CITATION),
    "mart": Entry(mart.create, mart.SUMMARY, mart.CITATION),
    "mart_subset": Entry(mart_subset.create, mart_subset.SUMMARY, mart_subset.CITATION),
    "nap": Entry(nap.create, nap.SUMMARY, nap.CITATION),
    "fat": Entry(fat.create, fat.SUMMARY, fat.CITATION),
    "fat_trades": Entry(fat.create_trades, fat.SUMMARY_TRADES, fat.CITATION),
    "fat_mart": Entry(fat.create_mart, fat.SUMMARY_MART, fat.CITATION),
    "sense": Entry(sense.create, sense.SUMMARY, sense.CITATION),
    "lrm": Entry(lrm.create, lrm.SUMMARY, lrm.CITATION),
    "alp": Entry(alp.create, alp.SUMMARY, alp.CITATION),
    "clp": Entry(alp.create_clean, alp.SUMMARY_CLEAN, alp.CITATION),
    "logit_squeezing": Entry(alp.create_squeezing, alp.SUMMARY_SQUEEZING, alp.CITATION),
    "dynamic": Entry(dynamic.create, dynamic.SUMMARY, dynamic.CITATION),
    "cat": Entry(cat.create, cat.SUMMARY, cat.CITATION),
    "iaat": Entry(iaat.create, iaat.SUMMARY, iaat.CITATION),
    "mma": Entry(mma.create, mma.SUMMARY, mma.CITATION),
    "fast": Entry(fast.create, fast.SUMMARY, fast.CITATION),
    "free": Entry(free.create, free.SUMMARY, free.CITATION),
    "uat": Entry(uat.create, uat.SUMMARY, uat.CITATION),
    "rst": Entry(rst.create, rst.SUMMARY, rst.CITATION),
}


def register(
    name: str,
    create: Callable[..., Method] | None = None,
    *,
    summary: str = "",
    citation: str = "",
) -> Any:
    """Adds a method to those that `create` knows, and so every command.

    Args:
      name: that it gets.
      create: makes it; its keyword arguments are the hyper-parameters, each with a default. Not
        given, a decorator of such a function is returned.
      summary: one line about it; the function's own first line if not given.
      citation: the BibTeX entry of its paper.

    Returns:
      `create`.

    Raises:
      ValueError: the name is taken, or an argument has no default.
    """
    require_free_name("method", name, _METHODS)
    if create is None:
        return functools.partial(register, name, summary=summary, citation=citation)
    _METHODS[name] = _entry_of(name, create, summary, citation)
    return create


def _entry_of(name: str, create: Callable[..., Method], summary: str, citation: str) -> Entry:
    for parameter in inspect.signature(create).parameters.values():
        if parameter.default is parameter.empty:
            raise UserError(
                f"method {name!r}: its {parameter.name} has no default; every hyper-parameter "
                "needs one"
            )
    said = summary or (inspect.getdoc(create) or name).splitlines()[0]
    return Entry(create, said, citation)


def give(method: Method | Callable[..., Method]) -> str:
    """Makes an object known under a name that no command line has, until another has that name.

    Args:
      method: the value, which has no hyper-parameters; or what makes it of them.

    Returns:
      The name, for `create`.

    Raises:
      ValueError: it is neither.
    """
    if not isinstance(method, Method) and not callable(method):
        raise refusal("method", shown(method), "values of methods.Method, and what makes them")
    name = own_code.name_of_given(method)
    factory = (lambda: method) if isinstance(method, Method) else method
    _METHODS[name] = _entry_of(name, factory, f"{name}, given in Python", "")
    return name


def names() -> tuple[str, ...]:
    """The names of all methods."""
    return tuple(name for name in _METHODS if not name.startswith("<") and ":" not in name)


def create(name: str, **hyperparameters: Any) -> Method:
    """A method by its name.

    Args:
      name: one of `names()`, or code of one's own, "package.module:create", which gives a `Method`
        when it is called with the hyper-parameters.
      **hyperparameters: the method's own; `hyperparameters(name)` lists them with their defaults.

    Raises:
      ValueError: no method has that name, or it has no hyper-parameter of that name; the message
        lists those there are.
    """
    entry = _entry(name)
    accepted = inspect.signature(entry.factory).parameters
    for given in hyperparameters:
        if given not in accepted:
            raise UserError(
                f"method {name!r} has no hyper-parameter {given!r}; it has: "
                f"{', '.join(accepted) or 'none'}{did_you_mean(given, accepted)}"
            )
    method = entry.factory(**hyperparameters)
    if not isinstance(method, Method):
        raise refusal(f"method={name}: what it gives", shown(method), "values of methods.Method")
    return method


def hyperparameters(name: str) -> dict[str, Any]:
    """The hyper-parameters of a method and their defaults."""
    parameters = inspect.signature(_entry(name).factory).parameters
    return {parameter.name: parameter.default for parameter in parameters.values()}


def summary(name: str) -> str:
    """One line about a method."""
    return _entry(name).summary


def explain(name: str) -> str:
    """What a method's docstring says: its formula, hyper-parameters, and where code differs."""
    return inspect.getdoc(_entry(name).factory) or summary(name)


def cite(name: str) -> str:
    """The BibTeX entry of the paper that a method comes from."""
    return _entry(name).citation


def _entry(name: str) -> Entry:
    if own_code.is_own(name) and name not in _METHODS:
        _METHODS[str(name)] = _entry_of(name, own_code.load("method", name), "", "")
    if not isinstance(name, str) or name not in _METHODS:
        own_code.refuse_given("method", name)
        raise UserError(
            f"unknown method {shown(name)!r}; known are {', '.join(names())}, "
            f"and {own_code.FORM} of your own{did_you_mean(name, names())}"
        )
    return _METHODS[name]
