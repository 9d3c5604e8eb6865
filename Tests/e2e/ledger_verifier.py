"""Verifies exported ledgers, proofs and receipts. Written from docs/api/ledger-proof.md alone, beside `weir verify` and not from it."""

import base64
import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import ed25519


class Bad(Exception):
    """Something is not as it was signed."""

    def __init__(self, reason: str, seq: int | None = None) -> None:
        super().__init__(f"{reason} (seq {seq})")
        self.seq = seq


def fields(*values: bytes | None) -> bytes:
    return b"".join(b"\xff\xff\xff\xff" if value is None else len(value).to_bytes(4, "big") + value for value in values)


def number(value: int) -> bytes:
    return value.to_bytes(8, "big", signed=True)


def identifier(text: str | None, prefix: str = "") -> bytes | None:
    if text is None:
        return None
    assert text.startswith(prefix)
    return UUID(text.removeprefix(prefix)).bytes


def micros(text: str) -> int:
    """Microseconds since 1970, without floating point."""
    return (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def instant(text: str) -> bytes:
    return number(micros(text))


#: How far a signature's own time may lie outside its key's life.
TOLERANCE = 60_000_000


def text(value: str | None) -> bytes | None:
    return None if value is None else value.encode()


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def ledger_leaf(entry: dict[str, Any]) -> bytes:
    return sha256(
        fields(
            b"weir.ledger.entry.v2" if "tags" in entry else b"weir.ledger.entry.v1",
            identifier(entry["entry_id"]),
            identifier(entry["tenant_id"]),
            identifier(entry["user_id"]),
            identifier(entry["key_id"]),
            identifier(entry["request_id"], "req_"),
            text(entry["kind"]),
            text(entry["model"]),
            text(entry["model_version"]),
            identifier(entry["price_version"], "pv_"),
            identifier(entry["lease_id"]),
            number(entry["requests"]),
            number(entry["input_tokens"]),
            number(entry["cached_input_tokens"]),
            number(entry["output_tokens"]),
            text(entry["token_source"]),
            instant(entry["occurred_at"]),
            instant(entry["posted_at"]),
            number(entry["served_input_tokens"]),
            number(entry["served_output_tokens"]),
            *([text(entry["tags"])] if "tags" in entry else []),
        )
    )


def audit_leaf(entry: dict[str, Any]) -> bytes:
    return sha256(
        fields(
            b"weir.audit.entry.v1",
            identifier(entry["id"]),
            instant(entry["at"]),
            text(entry["actor"]),
            text(entry["action"]),
            text(entry["subject_type"]),
            text(entry["subject_id"]),
            identifier(entry["tenant_id"]),
            text(entry["before"]),
            text(entry["after"]),
        )
    )


def origin(tenant: str | None) -> bytes:
    if tenant is None:
        return sha256(fields(b"weir.audit.chain.v1"))
    return sha256(fields(b"weir.ledger.chain.v1", identifier(tenant)))


def link(chain: str, previous: bytes, seq: int, leaf: bytes) -> bytes:
    return sha256(fields(f"weir.{chain}.link.v1".encode(), previous, number(seq), leaf))


@dataclass
class Keys:
    keys: dict[str, dict[str, Any]]

    @classmethod
    def of(cls, document: dict[str, Any]) -> "Keys":
        keys = {key["id"]: key for key in document["data"]}
        for name, key in keys.items():
            if sha256(bytes.fromhex(key["public_key"]))[:8].hex() != name:
                raise Bad(f"the key {name} has another key's name")
        return cls(keys)

    def check(self, key_id: str, message: bytes, signature: bytes, signed_at: int) -> None:
        key = self.keys.get(key_id)
        if key is None or key["state"] == "compromised":
            raise Bad(f"the key {key_id} proves nothing")
        if micros(key["created_at"]) - TOLERANCE > signed_at:
            raise Bad(f"the key {key_id} was not made yet")
        if key["retired_at"] is not None and signed_at > micros(key["retired_at"]) + TOLERANCE:
            raise Bad(f"the key {key_id} was retired already")
        if not ed25519.verify(bytes.fromhex(key["public_key"]), message, signature):
            raise Bad(f"the signature of {key_id} does not hold")

    def check_head(self, head: dict[str, Any]) -> None:
        chain = head["chain"]
        message = fields(
            f"weir.{chain}.head.v1".encode(),
            *([identifier(head["tenant_id"])] if chain == "ledger" else []),
            number(head["seq"]),
            bytes.fromhex(head["hash"]),
            instant(head["signed_at"]),
            bytes.fromhex(head["key_id"]),
        )
        self.check(head["key_id"], message, bytes.fromhex(head["signature"]), micros(head["signed_at"]))


@dataclass
class Report:
    entries: list[dict[str, Any]] = field(default_factory=list)
    heads: int = 0


def verify_export(lines: list[str], keys: Keys, known: dict[str, Any] | None = None, after: int = 0) -> Report:
    """The whole of an export, or `Bad`. It has to begin behind the entry `after`, whatever it says of itself."""
    first = json.loads(lines[0])
    chain = {"ledger_export": "ledger", "audit_export": "audit"}[first["object"]]
    tenant = first["tenant_id"] if chain == "ledger" else None
    seq, current = first["after"], bytes.fromhex(first["previous_hash"])
    if seq == 0 and current != origin(tenant):
        raise Bad("another chain's beginning", 1)
    if seq != after:
        raise Bad(f"it begins behind {seq}", after + 1)
    report, met, ended = Report(), known is None, False

    def take_head(head: dict[str, Any]) -> None:
        if head["chain"] != chain or chain == "ledger" and head["tenant_id"] != tenant:
            raise Bad("a head of another chain", seq)
        if head["seq"] != seq or bytes.fromhex(head["hash"]) != current:
            raise Bad("the entries do not lead to the head", seq)
        keys.check_head(head)
        report.heads += 1

    for line in lines[1:]:
        if ended:
            raise Bad("something behind the last line", seq)
        item = json.loads(line)
        if item["object"] == f"{chain}_entry":
            if item["seq"] != seq + 1:
                raise Bad("a gap", seq + 1)
            leaf = ledger_leaf(item) if chain == "ledger" else audit_leaf(item)
            seq += 1
            current = link(chain, current, seq, leaf)
            if current.hex() != item["hash"]:
                raise Bad("the hash does not follow", seq)
            report.entries.append(item)
            if known is not None and known["seq"] == seq:
                if known["hash"] != current.hex():
                    raise Bad("the head that is known is another one", seq)
                met = True
        elif item["object"] == "head":
            take_head(item)
        elif item["object"] == "trailer":
            ended = True
            if item["count"] != len(report.entries):
                raise Bad("the count is another one", seq)
            if item["head"] is not None:
                take_head(item["head"])
            elif report.entries:
                raise Bad("no head", seq)
    if not ended or not met:
        raise Bad("cut off", seq + 1)
    return report


def verify_proof(proof: dict[str, Any], keys: Keys) -> None:
    entry = proof["entry"]
    seq, current = entry["seq"], bytes.fromhex(proof["previous_hash"])
    if seq == 1 and current != origin(entry["tenant_id"]):
        raise Bad("another chain's beginning", 1)
    current = link("ledger", current, seq, ledger_leaf(entry))
    if current.hex() != entry["hash"]:
        raise Bad("the hash does not follow", seq)
    for leaf in proof["following"]:
        seq += 1
        current = link("ledger", current, seq, bytes.fromhex(leaf))
    head = proof["head"]
    if head["tenant_id"] != entry["tenant_id"] or head["seq"] != seq or head["hash"] != current.hex():
        raise Bad("the entry does not lead to the head", entry["seq"])
    keys.check_head(head)


RECEIPT_FIELDS = [
    ("entry_id", identifier),
    ("tenant_id", identifier),
    ("key_id", identifier),
    ("model", text),
    ("model_version", text),
    ("price_version", lambda value: identifier(value, "pv_")),
    ("requests", number),
    ("input_tokens", number),
    ("cached_input_tokens", number),
    ("output_tokens", number),
    ("token_source", text),
]


def receipt_fields(entry: dict[str, Any]) -> bytes:
    return fields(*(form(entry[name]) for name, form in RECEIPT_FIELDS))


@dataclass
class Receipt:
    key_id: str
    index: int
    count: int
    path: list[bytes]
    signature: bytes
    #: Microseconds since 1970.
    signed_at: int
    #: As they are hashed; empty in the short form.
    fields: bytes

    @classmethod
    def of(cls, text: str) -> "Receipt":
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        if data[0] != 2 or data[1] > 1:
            raise Bad("another form")
        steps = data[26]
        path = [data[27 + 32 * step : 59 + 32 * step] for step in range(steps)]
        rest = data[27 + 32 * steps :]
        if len(rest) < 64 or (data[1] == 0 and len(rest) != 64):
            raise Bad("another length")
        return cls(
            data[2:10].hex(), int.from_bytes(data[10:14], "big"), int.from_bytes(data[14:18], "big"), path, rest[:64],
            int.from_bytes(data[18:26], "big", signed=True), rest[64:]
        )


def root_of(leaf: bytes, index: int, count: int, path: list[bytes]) -> bytes:
    """RFC 9162, section 2.1.3.2."""
    if index >= count:
        raise Bad("a place behind the end")
    position, last, current = index, count - 1, leaf
    for sibling in path:
        if last == 0:
            raise Bad("the path is too long")
        if position & 1 or position == last:
            current = sha256(b"\x01" + sibling + current)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            current = sha256(b"\x01" + current + sibling)
        position, last = position >> 1, last >> 1
    if last:
        raise Bad("the path is too short")
    return current


_roots: dict[tuple[str, bytes, bytes], bool] = {}


def verify_receipt(text: str, keys: Keys, entry: dict[str, Any] | None = None) -> Receipt:
    receipt = Receipt.of(text)
    proved = receipt.fields or (receipt_fields(entry) if entry else b"")
    if not proved:
        raise Bad("a short receipt without its entry")
    if entry is not None and proved != receipt_fields(entry):
        raise Bad("the receipt is another entry's")
    leaf = sha256(b"\x00" + fields(b"weir.receipt.v1") + proved)
    root = root_of(leaf, receipt.index, receipt.count, receipt.path)
    message = fields(
        b"weir.receipt.root.v2", bytes.fromhex(receipt.key_id), number(receipt.count), root, number(receipt.signed_at))
    known = (receipt.key_id, message, receipt.signature)
    if known not in _roots:
        # Many receipts share one signature.
        keys.check(receipt.key_id, message, receipt.signature, receipt.signed_at)
        _roots[known] = True
    return receipt
