"""Rules of FOCUS 1.2 for a file of charges: which columns there are, which may be empty, and what may stand in them."""

import json
import re
from decimal import Decimal

MANDATORY = {
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart", "ChargeCategory",
    "ChargeClass", "ChargeDescription", "ChargePeriodEnd", "ChargePeriodStart", "ContractedCost", "EffectiveCost", "InvoiceIssuerName",
    "ListCost", "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName", "ServiceCategory", "ServiceName",
}
MAY_BE_EMPTY = {
    "BillingAccountName", "ChargeClass", "ChargeDescription", "PricingQuantity", "PricingUnit", "ConsumedQuantity", "ConsumedUnit",
    "ContractedUnitPrice", "ListUnitPrice", "ResourceId", "SkuId", "SkuPriceId", "SubAccountId", "InvoiceId", "Tags",
}
NUMBERS = {
    "BilledCost", "ContractedCost", "EffectiveCost", "ListCost", "PricingQuantity", "ConsumedQuantity", "ListUnitPrice",
    "ContractedUnitPrice",
}
INSTANTS = {"BillingPeriodStart", "BillingPeriodEnd", "ChargePeriodStart", "ChargePeriodEnd"}
DECIMAL = re.compile(r"^-?\d+(\.\d+)?$")
INSTANT = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")


def faults(header: list[str], rows: list[dict[str, str]]) -> list[str]:
    found = [f"column {name} is missing" for name in sorted(MANDATORY - set(header))]
    found += [f"column {name} is there twice" for name in sorted({name for name in header if header.count(name) > 1})]
    for number, row in enumerate(rows, 1):
        found += [f"row {number}: {fault}" for fault in _row(row)]
    return found


def _row(row: dict[str, str]) -> list[str]:
    found = []
    for name, value in row.items():
        if value == "" and name not in MAY_BE_EMPTY and not name.startswith("x_"):
            found.append(f"{name} is empty")
        if value and name in NUMBERS and not DECIMAL.match(value):
            found.append(f"{name} is no plain decimal: {value}")
        if value and name in INSTANTS and not INSTANT.match(value):
            found.append(f"{name} is no instant: {value}")
    if row["ChargeCategory"] not in ("Usage", "Purchase", "Tax", "Credit", "Adjustment"):
        found.append(f"ChargeCategory is {row['ChargeCategory']}")
    if row["ChargeClass"] not in ("", "Correction"):
        found.append(f"ChargeClass is {row['ChargeClass']}")
    if not re.fullmatch(r"[A-Z]{3}", row["BillingCurrency"]):
        found.append(f"BillingCurrency is {row['BillingCurrency']}")
    if row["ServiceCategory"] != "AI and Machine Learning":
        found.append(f"ServiceCategory is {row['ServiceCategory']}")
    for name in ("Billing", "Charge"):
        if not row[f"{name}PeriodStart"] < row[f"{name}PeriodEnd"]:
            found.append(f"the {name} period ends before it begins")
    if (row["PricingQuantity"] == "") != (row["PricingUnit"] == ""):
        found.append("PricingQuantity and PricingUnit go together")
    if row["ChargeCategory"] in ("Usage", "Purchase") and row["ChargeClass"] == "":
        for name in ("PricingQuantity", "PricingUnit", "ListUnitPrice", "ContractedUnitPrice", "SkuPriceId"):
            if row[name] == "":
                found.append(f"{row['ChargeCategory']} has no {name}")
    if row["ChargeCategory"] != "Usage" and (row["ConsumedQuantity"] or row["ConsumedUnit"]):
        found.append("what is no usage was consumed")
    for unit_price, cost in (("ListUnitPrice", "ListCost"), ("ContractedUnitPrice", "ContractedCost")):
        if row[unit_price] and DECIMAL.match(row["PricingQuantity"]) and DECIMAL.match(row[cost]):
            product = Decimal(row["PricingQuantity"]) * Decimal(row[unit_price])
            if abs(product - Decimal(row[cost])) > Decimal("0.0000005"):
                found.append(f"PricingQuantity times its price is {product}, and {cost} is {row[cost]}")
    if row.get("Tags") and not isinstance(json.loads(row["Tags"]), dict):
        found.append("Tags is no object")
    return found
