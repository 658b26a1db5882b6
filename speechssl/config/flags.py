"""The settings of a run as flags: ``--optim.warmup-steps N``, with what the field's annotation and
the string below it say: the type, the range, the default, the meaning."""

import argparse
import dataclasses
import re
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from speechssl.config.bounds import field_types, split
from speechssl.config.source import field_docs

_NAMES = {
    int: ("N", "a whole number"),
    float: ("X", "a number"),
    bool: ("{true,false}", ""),
    str: ("TEXT", ""),
}


@dataclass(frozen=True)
class Setting:
    """A field that can be set."""

    name: str
    """Dotted, as in config.json: ``optim.warmup_steps``."""
    kind: Any
    """Its annotation, bounds included."""
    default: Any
    doc: str

    @property
    def flag(self) -> str:
        """As it is typed."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def metavar(self) -> str:
        """What stands for the value."""
        return _describe(self.kind)[0]

    @property
    def help(self) -> str:
        """The meaning, what is allowed, the default."""
        about = [_describe(self.kind)[1], f"default {shown(self.default)}"]
        return f"{self.doc} ({'; '.join(filter(None, about))})".strip()


@dataclass(frozen=True)
class Group:
    """The settings of one config class."""

    prefix: str
    """``optim.``; empty for those of the run itself."""
    doc: str
    settings: tuple[Setting, ...]


def setting_groups(config: Any, prefix: str = "", about: str = "") -> Iterator[Group]:
    """Every setting of a config, whose values are the defaults; a config's own before those in it.

    Where a field may be one of several classes, or none, all of them are there; of a collection all
    members, without the collection's name (`speechssl.config.json`).
    """
    cls: Any = type(config)
    docs = field_docs(cls)
    own, inner = [], []
    for name, kind in field_types(cls).items():
        value, doc = getattr(config, name), docs.get(name, "")
        if hasattr(kind, "members"):
            there = {each.name: each for each in value.configs}
            for member, each in kind.members.items():
                about = "" if member in there else f"Only with --{name} {member}."
                inner.append((there.get(member) or each(), f"{member}.", about))
            continue
        classes: list[Any] = [c for c in _members(kind) if dataclasses.is_dataclass(c)]
        if not classes:
            own.append(Setting(prefix + name, kind, value, doc))
        # what the default is, is shown first
        for each in sorted(classes, key=lambda each: type(value) is not each):
            one = value if type(value) is each else each()
            which = f" This one is {getattr(each, 'kind', each)}." if len(classes) > 1 else ""
            inner.append((one, f"{prefix}{name}.", doc + which))
    first = " ".join((cls.__doc__ or "").split("\n\n")[0].split())
    yield Group(prefix, f"{first} {about}".strip(), tuple(own))
    for one, path, doc in inner:
        yield from setting_groups(one, path, doc)


def overview(config: Any) -> dict[str, list[str]]:
    """The names of all settings by ``--GROUP.NAME``."""
    names: dict[str, list[str]] = {}
    for group in setting_groups(config):
        found = names.setdefault(f"--{group.prefix.replace('_', '-')}NAME", [])
        found += [setting.flag.rsplit(".", 1)[-1].lstrip("-") for setting in group.settings]
    return {flag: list(dict.fromkeys(each)) for flag, each in names.items() if each}


def add_settings(parser: argparse.ArgumentParser, config: Any, word: str = "") -> int:
    """Into a parser's help: every setting by config, or those with a word; how many they are."""
    parser.conflict_handler = "resolve"  # some settings are options of the command too
    num = 0
    taken: set[str] = set()
    for group in setting_groups(config):
        chosen = [s for s in group.settings if word.lower() in f"{s.flag} {s.name} {s.doc}".lower()]
        chosen = [setting for setting in chosen if setting.flag not in taken]
        if not chosen:
            continue
        title = f"--{group.prefix.replace('_', '-')}*" if group.prefix else "settings of the run"
        section = parser.add_argument_group(title, _literal(group.doc))
        for setting in chosen:
            section.add_argument(setting.flag, metavar=setting.metavar, help=_literal(setting.help))
        taken |= {setting.flag for setting in chosen}
        num += len(chosen)
    return num


def shown(value: Any) -> str:
    """A value as it can be typed."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "none"
    if isinstance(value, tuple):
        listed = ",".join(map(shown, value))
        lone = len(value) == 1 and not isinstance(value[0], str)  # a number is no list
        return f"[{listed}]" if lone or not value else listed
    return str(value)


def _literal(text: str) -> str:
    """Without markup, and for argparse, in whose texts a percent sign begins a name."""
    return re.sub(r" \(:\w+:`[^`]*`\)|`", "", text).replace("%", "%%")


def _members(kind: Any) -> list[Any]:
    """The types of a union; of another type itself."""
    kind, _ = split(kind)
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return [each for each in typing.get_args(kind) if each is not type(None)]
    return [kind]


def _describe(kind: Any) -> tuple[str, str]:
    """What stands for a value, and what is allowed in words."""
    kind, bounds = split(kind)
    texts = [bound.text for bound in bounds]
    if kind in _NAMES:
        metavar, what = _NAMES[kind]
        return metavar, ", ".join(texts) or what
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return f"{{{','.join(map(str, inner))}}}", ""
    if origin is tuple:
        metavar, what = _describe(inner[0])
        each = metavar.strip("{}").replace(",", "|")
        num = len(inner) if inner[-1] is not Ellipsis else 0
        listed = ",".join([metavar] * num) if num else f"{each}[,...]"
        return listed, ", ".join(texts or ([f"each {what}"] if what else []))
    parts = [_describe(each) for each in inner]
    metavar = "|".join(
        "none" if e is type(None) else m for e, (m, _) in zip(inner, parts, strict=True)
    )
    return metavar, " or ".join(what for _, what in parts if what)
