"""HDF5 as Keras writes it, read byte by byte: groups, texts, and arrays of numbers that are stored in one piece.

The HDF5 library is not used, since it can run forever inside a damaged file; here every step moves on, and nothing
outside the file is ever opened. Source: HDF5 File Format Specification, Version 3.0, The HDF Group; the sections are
named where they are read.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from mmap import mmap
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from picojoule.errors import BadInput

SIGNATURE = b"\x89HDF\r\n\x1a\n"
MOST_NAMES = 20_000
"""Names in one group, or in one list, at most (our choice)."""
_MOST_BLOCKS = 1_000
_DATASPACE, _LINK_INFO, _DATATYPE, _LINK, _EXTERNAL, _LAYOUT = 0x01, 0x02, 0x03, 0x06, 0x07, 0x08
_ATTRIBUTE, _CONTINUATION, _SYMBOL_TABLE, _ATTRIBUTE_INFO = 0x0C, 0x10, 0x11, 0x15
_FLOATS: dict[tuple[int, tuple[int, ...]], str] = {
    (2, (0, 16, 10, 5, 0, 10, 15)): "f2",
    (4, (0, 32, 23, 8, 0, 23, 127)): "f4",
    (8, (0, 64, 52, 11, 0, 52, 1023)): "f8",
}
"""Size and bit fields (offset, precision, exponent, mantissa, bias) of the IEEE formats."""


@dataclass
class Bytes:
    """The bytes of a file; `left` is how many bytes of arrays may still be read, once each at most."""

    data: bytes | mmap
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = len(self.data)

    def piece(self, at: int, size: int) -> bytes:
        """`size` bytes from `at`. Raises BadInput beyond the end."""
        if at + size > len(self.data):
            raise broken("it points beyond its end")
        return self.data[at : at + size]

    def whole(self, at: int, size: int = 8) -> int:
        """A whole number of `size` bytes."""
        return int.from_bytes(self.piece(at, size), "little")

    def expect(self, at: int, signature: bytes) -> None:
        """Raise BadInput unless a structure begins at `at`."""
        if self.piece(at, len(signature)) != signature:
            raise broken(f"there is no {signature.decode()} where one should be")

    def spend(self, size: int) -> None:
        """Raise BadInput once arrays were read that hold more bytes than the file."""
        self.left -= size
        if self.left < 0:
            raise broken("its arrays hold more than the file")


class Message(NamedTuple):
    """A part of an object's header."""

    kind: int
    body: bytes


class Attribute(NamedTuple):
    """A small value at an object: its type, its shape and its bytes."""

    datatype: bytes
    shape: tuple[int, ...]
    data: bytes


class Node:
    """A group or an array. `path` is where it was found."""

    def __init__(self, source: Bytes, address: int, path: str):
        self._source, self.path = source, path
        self._messages = list(_messages(source, address))

    @property
    def is_array(self) -> bool:
        """Whether it holds numbers instead of names."""
        return any(m.kind == _LAYOUT for m in self._messages)

    @cached_property
    def _links(self) -> dict[str, int | None]:
        """Names and addresses; None for what is no place in this file."""
        found: dict[str, int | None] = {}
        for message in self._messages:
            if message.kind == _LINK_INFO and _dense(message.body, 8):
                raise BadInput(f"the group {self.path} is stored in a way that is not read; save the model again")
            links = _old_links if message.kind == _SYMBOL_TABLE else _link if message.kind == _LINK else None
            for name, address in links(self._source, message.body) if links else ():
                found[name] = address
                if len(found) > MOST_NAMES:
                    raise broken(f"the group {self.path} has more than {MOST_NAMES} names")
        return found

    @cached_property
    def _attributes(self) -> dict[str, Attribute]:
        for message in self._messages:
            if message.kind == _ATTRIBUTE_INFO and _dense(message.body, 2):
                raise BadInput(f"the texts at {self.path} are stored in a way that is not read; save the model again")
        return dict(_attribute(m.body) for m in self._messages if m.kind == _ATTRIBUTE)

    def children(self) -> list[str]:
        """The names in a group, in the order of the file."""
        return list(self._links)

    def child(self, name: str) -> "Node | None":
        """What lies under `name`, which may be a path; None if nothing does. Raises BadInput for a link elsewhere."""
        node = self
        for part in name.strip("/").split("/"):
            if part not in node._links:
                return None
            address = node._links[part]
            if address is None:
                raise BadInput(f"{name!r} is a link to another place, which is not followed; save the model again")
            node = Node(self._source, address, f"{node.path.rstrip('/')}/{part}")
        return node

    def text(self, name: str, largest: int) -> str | None:
        """An attribute that is one text of at most `largest` bytes; None if there is none."""
        texts = self._texts(name, largest)
        if texts is None:
            return None
        if len(texts) != 1:
            raise broken(f"{name} is no text")
        return texts[0]

    def names(self, name: str) -> list[str]:
        """An attribute that is a list of texts; long ones are cut into several: `name0`, `name1`, ..."""
        if name in self._attributes:
            return self._texts(name, 1 << 24) or []
        found: list[str] = []
        for i in range(len(self._attributes)):
            if f"{name}{i}" not in self._attributes:
                break
            found += self._texts(f"{name}{i}", 1 << 24) or []
        return found

    def _texts(self, name: str, largest: int) -> list[str] | None:
        if name not in self._attributes:
            return None
        datatype, shape, data = self._attributes[name]
        kind, size, count = datatype[0] & 15, int.from_bytes(datatype[4:8], "little"), prod(shape)
        if count > MOST_NAMES or count and count * size > len(data) or not size:
            raise broken(f"{name} is not whole")
        items = [data[i * size : (i + 1) * size] for i in range(count)]
        if kind == 9 and datatype[1] & 15 == 1 and size == 16:
            items = [_from_heap(self._source, item, largest) for item in items]
        elif kind != 3 and count:
            raise broken(f"{name} is no text")
        if sum(map(len, items)) > largest:
            raise BadInput(f"expected at most {largest} bytes as {name}")
        return [item.split(b"\0", 1)[0].decode() for item in items]

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The shape of an array."""
        return _dims(self._only(_DATASPACE))

    def numbers(self) -> Tensor:
        """The numbers of an array as float32. Raises BadInput unless it is made of floats in one piece."""
        layout, datatype = self._only(_LAYOUT), self._only(_DATATYPE)
        if any(m.kind == _EXTERNAL for m in self._messages) or layout[0] not in (3, 4) or layout[1] not in (0, 1):
            raise BadInput(
                f"the array {self.path} is packed or lies elsewhere; save the model again without compression"
            )
        kind = _float(datatype)
        if kind is None:
            raise BadInput(f"expected the array {self.path} to hold float16, float32 or float64")
        size = prod(self.shape) * int.from_bytes(datatype[4:8], "little")
        if layout[1] == 0:
            stored = layout[4 : 4 + int.from_bytes(layout[2:4], "little")]
        else:
            address, length = (int.from_bytes(layout[i : i + 8], "little") for i in (2, 10))
            stored = self._source.piece(address, size) if length == size else b""
        if len(stored) != size:
            raise BadInput(f"the array {self.path} of {size} bytes is not whole; save the model again")
        self._source.spend(size)
        return torch.from_numpy(np.frombuffer(stored, kind).astype(np.float32).reshape(self.shape))

    def _only(self, kind: int) -> bytes:
        found = [m.body for m in self._messages if m.kind == kind]
        if len(found) != 1 or len(found[0]) < 2:
            raise broken(f"the array {self.path} is not described")
        return found[0]


def broken(reason: str) -> BadInput:
    """The error for a file that was damaged."""
    return BadInput(f"the weights are damaged ({reason}); save the model again")


def root(source: Bytes) -> Node:
    """The outermost group ("Disk Format: Level 0A - Superblock"). Raises BadInput."""
    if source.piece(0, 8) != SIGNATURE:
        raise broken("they are no HDF5")
    version = source.whole(8, 1)
    sizes, first = (source.piece(13, 2), 24 if version == 0 else 28) if version < 2 else (source.piece(9, 2), 12)
    if version > 3 or sizes != b"\x08\x08" or source.whole(first) != 0:
        raise BadInput("the weights are HDF5 of a kind that Keras does not write; save the model again")
    return Node(source, source.whole(first + (40 if version < 2 else 24)), "/")


def _messages(source: Bytes, address: int) -> Iterator[Message]:
    """The header of an object and its continuations ("Level 2A - Data Object Headers")."""
    new = source.piece(address, 4) == b"OHDR"
    ordered = False
    if new:
        flags, at = source.whole(address + 5, 1), address + 6
        at += 16 * bool(flags & 32) + 4 * bool(flags & 16)
        width, ordered = 1 << (flags & 3), bool(flags & 4)
        blocks = [(at + width, source.whole(at, width))]
    elif source.whole(address, 1) == 1:
        blocks = [(address + 16, source.whole(address + 8, 4))]
    else:
        raise broken("an object has no header")
    for done, (at, length) in enumerate(blocks):  # grows while it is read
        if done >= _MOST_BLOCKS:
            raise broken("the header of an object does not end")
        for message in _block(source.piece(at, length), new, ordered):
            if message.kind != _CONTINUATION:
                yield message
                continue
            start, size = (int.from_bytes(message.body[i : i + 8], "little") for i in (0, 8))
            if new:
                source.expect(start, b"OCHK")
                start, size = start + 4, size - 8
            if (start, size) in blocks or size < 0:
                raise broken("the header of an object leads back to itself")
            blocks.append((start, size))


def _block(block: bytes, new: bool, ordered: bool) -> Iterator[Message]:
    head = 4 + 2 * ordered if new else 8
    at = 0
    while at + head <= len(block):
        kind = block[at] if new else int.from_bytes(block[at : at + 2], "little")
        place = at + 1 if new else at + 2
        size, flags = int.from_bytes(block[place : place + 2], "little"), block[place + 2]
        if flags & 2 and kind in (_DATASPACE, _DATATYPE, _LAYOUT, _ATTRIBUTE):
            raise broken("a description is shared between objects")
        body = block[at + head : at + head + size]
        if len(body) < size:
            raise broken("a part of a header is cut off")
        yield Message(kind, body)
        at += head + size


def _old_links(source: Bytes, body: bytes) -> Iterator[tuple[str, int | None]]:
    """The names of a group in a tree ("B-tree Nodes, Version 1", "Symbol Table Nodes", "Local Heaps")."""
    tree, heap = (int.from_bytes(body[i : i + 8], "little") for i in (0, 8))
    source.expect(heap, b"HEAP")
    names = source.piece(source.whole(heap + 24), source.whole(heap + 8))
    nodes, seen = [tree], {tree}
    while nodes:
        node = nodes.pop()
        if source.piece(node, 4) == b"TREE":
            used = source.whole(node + 6, 2)
            below = [source.whole(node + 32 + 16 * i) for i in range(used)]
            if source.whole(node + 4, 1) != 0 or seen & set(below) or len(set(below)) < used:
                raise broken("a tree of names leads back to itself")
            seen |= set(below)
            nodes += reversed(below)
            if len(seen) > MOST_NAMES:
                raise broken(f"a group has more than {MOST_NAMES} names")
            continue
        source.expect(node, b"SNOD")
        for i in range(source.whole(node + 6, 2)):
            at = node + 8 + 40 * i
            name, address, kind = source.whole(at), source.whole(at + 8), source.whole(at + 16, 4)
            end = names.find(b"\0", name)
            if end < 0:
                raise broken("a name does not end")
            yield names[name:end].decode(), None if kind == 2 else address


def _link(source: Bytes, body: bytes) -> Iterator[tuple[str, int | None]]:
    """One name of a small group ("The Link Message")."""
    flags, at = body[1], 2
    kind = body[at] if flags & 8 else 0
    at += bool(flags & 8) + 8 * bool(flags & 4) + bool(flags & 16)
    width = 1 << (flags & 3)
    size = int.from_bytes(body[at : at + width], "little")
    name = body[at + width : at + width + size]
    place = body[at + width + size : at + width + size + 8]
    if len(name) < size or kind == 0 and len(place) < 8:
        raise broken("a link is cut off")
    yield name.decode(), int.from_bytes(place, "little") if kind == 0 else None


def _dense(body: bytes, width: int) -> bool:
    """Whether names or attributes are kept in a heap ("The Link Info Message", "The Attribute Info Message")."""
    at = 2 + (width if body[1] & 1 else 0)
    return body[at : at + 8] != b"\xff" * 8


def _attribute(body: bytes) -> tuple[str, Attribute]:
    """A name and its value ("The Attribute Message")."""
    version = body[0]
    if version not in (1, 2, 3) or version > 1 and body[1]:
        raise broken("a text is of an unknown kind")
    sizes = [int.from_bytes(body[i : i + 2], "little") for i in (2, 4, 6)]
    at, parts = 9 if version == 3 else 8, []
    for size in sizes:
        parts.append(body[at : at + size])
        at += -(-size // 8) * 8 if version == 1 else size
    name, datatype, dataspace = parts
    if len(datatype) < 8 or len(dataspace) < 2:
        raise broken("a text is cut off")
    return name.split(b"\0", 1)[0].decode(), Attribute(datatype, _dims(dataspace), body[at:])


def _dims(body: bytes) -> tuple[int, ...]:
    """A shape ("The Dataspace Message")."""
    version, rank = body[0], body[1]
    at = {1: 8, 2: 4}.get(version, len(body))
    if version == 2 and len(body) > 3 and body[3] == 2:  # no value at all
        return (0,)
    if rank and len(body) < at + 8 * rank:
        raise broken("a shape is cut off")
    return tuple(int.from_bytes(body[at + 8 * i : at + 8 * i + 8], "little") for i in range(rank))


def _float(datatype: bytes) -> str | None:
    """numpy's name of a float type ("The Datatype Message"); None for other types."""
    if datatype[0] & 15 != 1 or len(datatype) < 20 or datatype[1] & 0x40:
        return None
    pairs, single = (8, 10), range(12, 16)
    fields = [int.from_bytes(datatype[i : i + 2], "little") for i in pairs] + [datatype[i] for i in single]
    kind = _FLOATS.get((int.from_bytes(datatype[4:8], "little"), (*fields, int.from_bytes(datatype[16:20], "little"))))
    return None if kind is None else (">" if datatype[1] & 1 else "<") + kind


def _from_heap(source: Bytes, reference: bytes, largest: int) -> bytes:
    """A text of any length, which lies outside its attribute ("Global Heap")."""
    length, address, wanted = (int.from_bytes(reference[i:j], "little") for i, j in ((0, 4), (4, 12), (12, 16)))
    if not length:
        return b""
    source.expect(address, b"GCOL")
    at, end = address + 16, address + source.whole(address + 8)
    while at + 16 <= end:
        index, size = source.whole(at, 2), source.whole(at + 8)
        if index == wanted:
            if length > size or length > largest:
                break
            return source.piece(at + 16, length)
        if index == 0:
            break
        at += 16 + -(-size // 8) * 8
    raise broken("a text is not where it should be")
