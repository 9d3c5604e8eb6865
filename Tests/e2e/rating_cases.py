"""Random months of random tenants on random tiers, with quantities where prices change and amounts that are ties more often than chance."""

import random
from datetime import UTC, datetime, timedelta

from rating_oracle import METERS, instant, month_edges

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia"]
MODELS = ["alpha", "beta", "gamma", "iris"]
EDGES = [1, 2, 10, 999, 1_000, 1_001, 50_000, 1_000_000]


def price(random: random.Random) -> str:
    kind = random.randrange(5)
    if kind == 0:
        return "0"
    if kind == 1:
        return "0.0000005"
    if kind == 2:
        return f"0.{random.randrange(10**12):012}"
    if kind == 3:
        return f"0.00000{random.randrange(10**6):06}"
    return str(random.randrange(100))


def rule(random: random.Random, meter: str, model: str) -> dict:
    kind = random.choice(["flat", "graduated", "volume", "package"])
    found = {"meter": meter, "model": model, "price_model": kind}
    if kind in ("flat", "package"):
        found["unit_price"] = price(random)
    if kind == "package":
        found["package_size"] = random.choice(EDGES)
    if kind in ("graduated", "volume"):
        ends = [*sorted(random.sample(EDGES, random.randrange(5))), None]
        found["bands"] = [{"up_to": end, "unit_price": price(random)} for end in ends]
    return found


def terms(random: random.Random, version: int) -> dict:
    places = [(meter, model) for meter in METERS for model in ["*", *MODELS[:2]]]
    chosen = random.sample(places, random.randrange(len(places) + 1))
    multiplied = random.sample([(m, model) for m in METERS[1:] for model in MODELS], random.randrange(4))
    multipliers = ["0.1", "0.333333", "2.5", "1000", "0.000001", "1"]
    return {
        "version": version,
        "currency": "EUR" if random.randrange(60) else "USD",
        "base_fee_micros": random.choice([0, 1, 5, 49_000_000, random.randrange(10**12)]),
        "minimum_commitment_micros": random.choice([0, 0, 7, 100_000_000, random.randrange(10**10)]),
        "included_requests": random.choice([0, 1, 1_000, random.randrange(10**5)]),
        "included_tokens": random.choice([0, 3, 1_000, random.randrange(10**6)]),
        "rules": [rule(random, *place) for place in chosen],
        "multipliers": [{"meter": m, "model": model, "multiplier": random.choice(multipliers)} for m, model in multiplied],
    }


def count(random: random.Random) -> int:
    kind = random.randrange(8)
    if kind == 0:
        return 0
    if kind == 1:
        return -random.choice(EDGES)
    if kind == 2:
        return random.randrange(10**13)
    if kind == 3:
        return random.randrange(2_000)
    return random.choice(EDGES) + random.choice([-1, 0, 0, 1])


def spans(random: random.Random, zone: str, month: str, versions: int) -> list[dict]:
    start, end = month_edges(zone, month)
    quarter_hours = (end - start) // 900_000_000
    cuts = sorted(random.sample(range(quarter_hours + 1), 2 * random.randrange(4)))
    return [
        {
            "version": random.randrange(1, versions + 1), "start": instant(start + first * 900_000_000),
            "end": instant(start + last * 900_000_000), "trial": random.randrange(4) == 0,
        }
        for first, last in zip(cuts[::2], cuts[1::2], strict=True)
    ]  # fmt: skip


def usage(random: random.Random, versions: int) -> dict:
    cached = random.choice([0, 0, count(random)])
    return {
        "version": random.randrange(1, versions + 1), "trial": random.randrange(8) == 0, "model": random.choice(MODELS),
        "requests": count(random), "input_tokens": count(random) + cached, "cached_input_tokens": cached,
        "output_tokens": count(random),
    }  # fmt: skip


def cases(seed: int, number: int) -> list[dict]:
    found = []
    for index in range(number):
        chance = random.Random(f"{seed}:{index}")
        zone = chance.choice(ZONES)
        month = (datetime(2024, 1, 15, tzinfo=UTC) + timedelta(days=30 * chance.randrange(48))).strftime("%Y-%m")
        versions = chance.randrange(1, 4)
        found.append({
            "name": f"{seed}:{index}", "zone": zone, "month": month,
            "terms": [terms(chance, version) for version in range(1, versions + 1)],
            "spans": spans(chance, zone, month, versions),
            "usage": [usage(chance, versions) for _ in range(chance.randrange(7))],
        })  # fmt: skip
    return found
