/// Amounts, quantities and days as a person reads them.
public enum AmountText {
    /// With at least two places and no more than are needed, thousands apart: `1,234.50`.
    public static func amount(_ micros: Micros) -> String {
        decimal(Int128(micros.value), places: 6, minimumPlaces: 2)
    }

    /// Millionths of a unit, with no more places than are needed.
    public static func quantity(_ millionths: Int128) -> String { decimal(millionths, places: 6, minimumPlaces: 0) }

    /// As ``quantity(_:)``, for a program: without a mark between thousands.
    public static func plainQuantity(_ millionths: Int128) -> String {
        decimal(millionths, places: 6, minimumPlaces: 0, mark: "")
    }

    public static func price(_ price: UnitPrice) -> String {
        decimal(Int128(price.picos), places: 12, minimumPlaces: 2)
    }

    private static func decimal(_ value: Int128, places: Int, minimumPlaces: Int, mark: String = ",") -> String {
        let digits = String(value.magnitude)
        let padded = String(repeating: "0", count: max(0, places + 1 - digits.utf8.count)) + digits
        let whole = padded.dropLast(places)
        var fraction = padded.suffix(places)
        while fraction.count > minimumPlaces, fraction.last == "0" { fraction.removeLast() }
        var grouped = ""
        for (index, digit) in whole.enumerated() {
            if index > 0, (whole.count - index) % 3 == 0 { grouped += mark }
            grouped.append(digit)
        }
        return (value < 0 ? "-" : "") + grouped + (fraction.isEmpty ? "" : "." + fraction)
    }
}
