"""Labelled trees and the sequences a model reads of them; it knows no programming language.

The text form of a tree is `A [ B C [ D ] ]`: a label, and its children in brackets behind it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Node:
    """One node; children in source order."""

    label: str
    children: list["Node"] = field(default_factory=list)


def preorder(root: Node) -> list[str]:
    """Labels, each before those below it."""
    labels, stack = [], [root]
    while stack:
        node = stack.pop()
        labels.append(node.label)
        stack.extend(reversed(node.children))
    return labels


def postorder(root: Node) -> list[str]:
    """Labels, each behind those below it."""
    labels, stack = [], [root]
    while stack:
        node = stack.pop()
        labels.append(node.label)
        stack.extend(node.children)
    return labels[::-1]


def parse(text: str) -> Node:
    """The tree of its text form; ValueError when the brackets do not match or there is not one root."""
    top = Node("")
    open_nodes = [top]
    for token in text.split():
        _take(token, open_nodes)
    if len(open_nodes) != 1 or len(top.children) != 1:
        raise ValueError(f"a tree has one root and closed brackets, not: {text[:60]!r}")
    return top.children[0]


def _take(token: str, open_nodes: list[Node]) -> None:
    parent = open_nodes[-1]
    if token == "[":
        if not parent.children:
            raise ValueError("a bracket opens without a label before it")
        open_nodes.append(parent.children[-1])
    elif token == "]":
        if len(open_nodes) == 1:
            raise ValueError("a bracket closes that was not opened")
        open_nodes.pop()
    else:
        parent.children.append(Node(token))


def render(root: Node) -> str:
    """The text form of a tree."""
    return " ".join(_tokens(root))


def _tokens(node: Node) -> Iterator[str]:
    yield node.label
    if node.children:
        yield "["
        for child in node.children:
            yield from _tokens(child)
        yield "]"
