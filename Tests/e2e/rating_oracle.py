"""A slow rating of a period, written from the rules in words and with exact fractions alone. It shares no code with the product.

The rules:
- Usage is priced by the tier version that it names. Versions come in the order in which the tenant was on them, then by their number.
- A span of a subscription has the part of the base fee that it is of the period in elapsed time. A trial has none.
- What the tier includes, and the least that it costs, are cut the same way by all spans of the version together; included amounts are cut
  down to whole units.
- Cached input tokens are counted at their own meter and not as input tokens. A unit of a model counts as many units as its multiplier says.
- Included requests go to requests, included tokens to tokens; to what has the dearest first unit, then by meter, then by model.
- Flat: each unit at its price. Graduated: the models of a group stand one behind the other, by name, and each unit costs what its place
  costs; what is negative takes the last places away again. Volume: all at the price of the band of the sum. Package: each begun package.
- A line is rounded once, half to even, to millionths of the currency's unit.
- Where the lines of a version are below its minimum, a last line makes up the difference. A version without one may end below zero.
"""

import json
import sys
from datetime import UTC, datetime
from fractions import Fraction
from math import floor
from zoneinfo import ZoneInfo

METERS = ["request", "input_token", "cached_input_token", "output_token"]
LARGEST = 2**63 - 1
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class CannotRate(Exception):
    """With the product's word for the reason."""


def microseconds(text: str) -> int:
    elapsed = datetime.fromisoformat(text).astimezone(UTC) - EPOCH
    return (elapsed.days * 86_400 + elapsed.seconds) * 1_000_000 + elapsed.microseconds


def instant(value: int) -> str:
    text = datetime.fromtimestamp(value // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return text + (f".{value % 1_000_000:06}" if value % 1_000_000 else "") + "Z"


def month_edges(zone: str, month: str) -> tuple[int, int]:
    year, number = map(int, month.split("-"))
    following = (year + number // 12, number % 12 + 1)
    first, last = (datetime(*edge, 1, tzinfo=ZoneInfo(zone)) for edge in ((year, number), following))
    return microseconds(first.isoformat()), microseconds(last.isoformat())


def to_micros(amount: Fraction) -> int:
    """Python rounds fractions half to even."""
    micros = round(amount * 1_000_000)
    if not -LARGEST - 1 <= micros <= LARGEST:
        raise CannotRate("amount_too_large")
    return micros


def price_text(price: Fraction) -> str:
    picos = price * 10**12
    assert picos.denominator == 1
    return f"{picos.numerator // 10**12}.{picos.numerator % 10**12:012}"


class Rule:
    def __init__(self, rule: dict):
        self.model = rule["model"]
        self.kind = rule["price_model"]
        self.price = Fraction(rule.get("unit_price", "0"))
        self.size = rule.get("package_size")
        self.bands = [(band["up_to"], Fraction(band["unit_price"])) for band in rule.get("bands", [])]

    def first_unit(self) -> Fraction:
        """Whole picos, cut off."""
        if self.kind == "package":
            return Fraction(floor(self.price * 10**12 / self.size), 10**12)
        return self.bands[0][1] if self.bands else self.price


class Version:
    """One tier version in one period."""

    def __init__(self, number: int, terms: dict, spans: list[dict], usage: list[dict], period: tuple[int, int]):
        self.number, self.terms, self.period = number, terms, period
        self.spans = sorted(
            ((microseconds(s["start"]), microseconds(s["end"]), s.get("trial", False)) for s in spans),
            key=lambda span: span[0],
        )
        self.usage = usage
        self.rules = {(rule["meter"], rule["model"]): Rule(rule) for rule in terms.get("rules", [])}
        self.multipliers = {(m["meter"], m["model"]): Fraction(m["multiplier"]) for m in terms.get("multipliers", [])}

    def part(self, elapsed: int) -> Fraction:
        return Fraction(elapsed, self.period[1] - self.period[0])

    def covered(self) -> Fraction:
        return self.part(sum(end - start for start, end, trial in self.spans if not trial))

    def rule(self, meter: str, model: str) -> Rule:
        free = Rule({"model": "*", "price_model": "flat"})
        return self.rules.get((meter, model)) or self.rules.get((meter, "*")) or free

    def quantities(self, trial: bool) -> dict[tuple[str, str], Fraction]:
        found: dict[tuple[str, str], Fraction] = {}
        for row in self.usage:
            if row.get("trial", False) != trial:
                continue
            cached = row.get("cached_input_tokens", 0)
            counts = [row["requests"], row["input_tokens"] - cached, cached, row["output_tokens"]]
            for meter, count in zip(METERS, counts, strict=True):
                place = (meter, row["model"])
                found[place] = found.get(place, Fraction(0)) + count * self.multipliers.get(place, 1)
        ordered = sorted(found, key=lambda place: (METERS.index(place[0]), place[1]))
        return {place: found[place] for place in ordered if found[place] != 0}

    def line(self, kind: str, amount: int, **more: object) -> dict:
        start = self.spans[0][0] if self.spans else self.period[0]
        end = self.spans[-1][1] if self.spans else self.period[1]
        line = {
            "kind": kind, "version": self.number, "model": None, "meter": None, "band": None,
            "start": instant(start), "end": instant(end), "quantity_millionths": None, "unit_price": None,
            "amount_micros": amount,
        }  # fmt: skip
        return line | more

    def quantity_line(self, kind: str, place: tuple[str, str], units: Fraction, price: Fraction, **more: object) -> dict:
        amount = more.pop("amount", None)
        millionths = units * 1_000_000
        assert millionths.denominator == 1
        return self.line(
            kind, to_micros(units * price) if amount is None else amount, meter=place[0], model=place[1],
            quantity_millionths=str(millionths.numerator), unit_price=price_text(price), **more,
        )  # fmt: skip

    def included(self, quantities: dict[tuple[str, str], Fraction]) -> list[dict]:
        lines = []
        for name, meters in (("included_requests", METERS[:1]), ("included_tokens", METERS[1:])):
            left = floor(self.terms.get(name, 0) * self.covered())
            places = [place for place in quantities if place[0] in meters and quantities[place] > 0]
            for place in sorted(places, key=lambda place: -self.rule(*place).first_unit()):
                taken = min(quantities[place], left)
                if taken > 0:
                    quantities[place] -= taken
                    left -= taken
                    lines.append(self.quantity_line("included", place, taken, Fraction(0)))
        return lines

    def priced(self, quantities: dict[tuple[str, str], Fraction]) -> list[dict]:
        groups: dict[tuple[str, str], list[tuple[str, Fraction]]] = {}
        for (meter, model), units in quantities.items():
            if units != 0:
                groups.setdefault((meter, self.rule(meter, model).model), []).append((model, units))
        lines = []
        for meter, group in sorted(groups, key=lambda place: (METERS.index(place[0]), place[1])):
            rule, members = self.rule(meter, group), groups[meter, group]
            total = sum(units for _, units in members)
            if rule.kind == "package":
                begun = max(0, -(-total // rule.size))
                lines.append(
                    self.quantity_line(
                        "usage", (meter, group), total, rule.price, amount=to_micros(begun * rule.price)))  # fmt: skip
            elif rule.kind == "graduated":
                lines += self.graduated(meter, rule, members)
            else:
                band, price = None, rule.price
                if rule.kind == "volume":
                    band = next(n for n, (up_to, _) in enumerate(rule.bands, 1) if up_to is None or total <= up_to)
                    price = rule.bands[band - 1][1]
                lines += [self.quantity_line("usage", (meter, model), units, price, band=band) for model, units in members]
        return lines

    def graduated(self, meter: str, rule: Rule, members: list[tuple[str, Fraction]]) -> list[dict]:
        lines = []
        place = Fraction(0)
        for model, units in members:
            low, high = min(place, place + units), max(place, place + units)
            bottom = None
            parts = []
            for number, (top, price) in enumerate(rule.bands, 1):
                inside = (high if top is None else min(high, top)) - (low if bottom is None else max(low, bottom))
                if inside > 0:
                    parts.append((number, inside if units > 0 else -inside, price))
                bottom = top
            for number, inside, price in parts if units > 0 else reversed(parts):
                lines.append(self.quantity_line("usage", (meter, model), inside, price, band=number))
            place += units
        return lines

    def rate(self) -> list[dict]:
        lines = []
        fee = Fraction(self.terms.get("base_fee_micros", 0), 1_000_000)
        for start, end, trial in self.spans:
            if fee and not trial:
                amount = to_micros(fee * self.part(end - start))
                lines.append(self.line("base_fee", amount, start=instant(start), end=instant(end)))
        for place, units in self.quantities(trial=True).items():
            lines.append(self.quantity_line("trial", place, units, Fraction(0)))
        quantities = self.quantities(trial=False)
        lines += self.included(quantities)
        lines += self.priced(quantities)
        least = to_micros(Fraction(self.terms.get("minimum_commitment_micros", 0), 1_000_000) * self.covered())
        spent = total_of(lines)
        if 0 < least and spent < least:
            if least - spent > LARGEST:
                raise CannotRate("amount_too_large")
            lines.append(self.line("minimum_commitment", least - spent))
        return lines


def total_of(lines: list[dict]) -> int:
    total = sum(line["amount_micros"] for line in lines)
    if not -LARGEST - 1 <= total <= LARGEST:
        raise CannotRate("amount_too_large")
    return total


def rate(case: dict) -> dict:
    """What a case costs: its lines and their sum, or the word for why it cannot be rated."""
    period = month_edges(case["zone"], case["month"])
    spans, usage = case.get("spans", []), case.get("usage", [])
    numbers = [span["version"] for span in sorted(spans, key=lambda span: microseconds(span["start"]))]
    numbers += sorted(row["version"] for row in usage)
    terms = {version["version"]: version for version in case["terms"]}
    lines: list[dict] = []
    currency = None
    try:
        for number in dict.fromkeys(numbers):
            if number not in terms:
                raise CannotRate("unknown_tier_version")
            if currency not in (None, terms[number]["currency"]):
                raise CannotRate("mixed_currencies")
            currency = terms[number]["currency"]
            own_spans = [span for span in spans if span["version"] == number]
            own_usage = [row for row in usage if row["version"] == number]
            lines += Version(number, terms[number], own_spans, own_usage, period).rate()
        return {"currency": currency, "lines": lines, "subtotal_micros": total_of(lines)}
    except CannotRate as reason:
        return {"failure": str(reason)}


if __name__ == "__main__":
    # Rates the cases of a file, one a line.
    for known in json.load(open(sys.argv[1], encoding="utf-8"))["cases"]:
        print(json.dumps(rate(known)))
