import ArgumentParser
import Domain

/// The option `--rate-limit` of the commands that set rate limits.
struct RateLimitOptions: ParsableArguments {
    @Option(
        name: .customLong("rate-limit"), parsing: .singleValue,
        help: ArgumentHelp(
            "A rate limit, as in requests=600:100, tokens=90000 or key/concurrency=8; none as the amount lifts the tier's. May be given several times.",
            valueName: "[key/]unit=amount[:burst]"))
    var texts: [String] = []

    func validate() throws { _ = try parsed() }

    func parsed() throws -> [AdminRateLimit] { try texts.map(Self.parse) }

    /// The server knows which limits make sense.
    static func parse(_ text: String) throws -> AdminRateLimit {
        let sides = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        let names = sides[0].split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        let values =
            sides.count == 2 ? sides[1].split(separator: ":", omittingEmptySubsequences: false).map(String.init) : []
        let scope = names.count == 2 ? RateScope(rawValue: names[0]) : .tenant
        let numbers = values.map { Int64($0) }
        let isLifted = values == ["none"]
        guard (1...2).contains(names.count), let scope, let unit = names.last.flatMap({ RateUnit(rawValue: $0) }),
            isLifted || (1...2).contains(values.count) && numbers.allSatisfy({ ($0 ?? -1) >= 0 })
        else {
            throw ValidationError(
                "--rate-limit \(text): expected [key/]unit=amount[:burst], as in requests=600:100 or key/concurrency=8; the units are "
                    + RateUnit.allCases.map(\.rawValue).joined(separator: ", "))
        }
        return AdminRateLimit(
            scope: scope.rawValue, unit: unit.rawValue, amount: isLifted ? nil : numbers[0],
            burst: numbers.count == 2 ? numbers[1] : nil)
    }
}
