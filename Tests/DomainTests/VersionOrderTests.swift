import TestSupport
import Testing

@testable import Domain

@Suite("The order of versions") struct VersionOrderTests {
    /// https://semver.org/spec/v2.0.0.html, section 11, and what follows from section 9 and 10.
    @Test("the specification's own examples are in its order")
    func examples() throws {
        let ordered = [
            "0.9.9", "1.0.0-0", "1.0.0-9", "1.0.0-10", "1.0.0-99999999999999999999", "1.0.0-100000000000000000000",
            "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11",
            "1.0.0-rc.1", "1.0.0", "2.0.0", "2.1.0", "2.1.1", "2.9.0", "2.10.0", "9.0.0", "10.0.0",
            "18446744073709551616.0.0", "99999999999999999999999.0.0",
        ]
        let versions = try ordered.map { try #require(SemanticVersion($0)) }
        for left in versions.indices {
            for right in versions.indices {
                #expect((versions[left] < versions[right]) == (left < right), "\(ordered[left]) \(ordered[right])")
                #expect((versions[left] == versions[right]) == (left == right))
            }
        }
    }

    @Test("build metadata has no part in precedence, and still tells two names apart")
    func build() {
        #expect(SemanticVersion("1.0.0+a") == SemanticVersion("1.0.0+b-1.2"))
        #expect(VersionRank("1.0.0+a") < VersionRank("1.0.0+b"))
        #expect(VersionRank.latest(of: ["1.0.0+b", "1.0.0", "1.0.0+a"]) == "1.0.0+b")
    }

    @Test(
        "what is no semantic version is none",
        arguments: [
            "", "1", "1.0", "1.0.0.0", "v1.0.0", "01.0.0", "1.00.0", "1.0.0-", "1.0.0-01", "1.0.0-a..b", "1.0.0+",
            "1.0.0+a+b", "1.0.0+.a", "1.0.0-é", "1.0.0 ", "-1.0.0", "1.0.0-a_b", "a.b.c", "1..0",
        ])
    func invalid(text: String) {
        #expect(SemanticVersion(text) == nil)
    }

    @Test(
        "what is one is read",
        arguments: ["0.0.0", "1.0.0-0a", "1.0.0--", "1.0.0-a-b.0", "1.0.0+001", "1.0.0-x.7.z.92+20130313144700"])
    func valid(text: String) {
        #expect(SemanticVersion(text) != nil)
    }

    @Test(
        "the latest is the greatest release, without one the greatest pre-release, without either the last by bytes",
        arguments: [
            (["1.9.0", "1.10.0", "1.2.0"], "1.10.0"), (["1.0.0", "2.0.0-rc.1"], "1.0.0"),
            (["2.0.0-rc.1", "2.0.0-rc.10", "zzz"], "2.0.0-rc.10"), (["1", "10", "9"], "9"),
            (["2026-03", "0.0.1-a"], "0.0.1-a"), (["b", "a"], "b"), ([], nil),
        ] as [([String], String?)])
    func latest(names: [String], expected: String?) {
        #expect(VersionRank.latest(of: names) == expected)
        #expect(VersionRank.latest(of: names.reversed()) == expected)
    }

    // MARK: Properties

    private static func name(_ random: inout SeededRandom) -> String {
        let numbers = ["0", "1", "2", "9", "10", "11", "18446744073709551615", "18446744073709551616"]
        let identifiers = numbers + ["a", "A", "-", "alpha", "alpha-1", "0a", "rc"]
        var text = (0..<3).map { _ in numbers.randomElement(using: &random) ?? "" }.joined(separator: ".")
        if Bool.random(using: &random) {
            text += "-"
            text += (0..<Int.random(in: 1...3, using: &random)).map { _ in
                identifiers.randomElement(using: &random) ?? ""
            }
            .joined(separator: ".")
        }
        if Int.random(in: 0..<4, using: &random) == 0 {
            text += "+" + (identifiers.randomElement(using: &random) ?? "")
        }
        // Some are none.
        if Int.random(in: 0..<5, using: &random) == 0 { text = String(text.dropFirst(2)) }
        return text
    }

    @Test("the order is total: exactly one of less, same and greater, and it carries over", arguments: 0..<8)
    func total(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        for _ in 0..<4_000 {
            let (a, b, c) = (
                VersionRank(Self.name(&random)), VersionRank(Self.name(&random)), VersionRank(Self.name(&random))
            )
            #expect([a < b, a == b, b < a].filter { $0 }.count == 1, "\(a.name) \(b.name)")
            if a < b, b < c { #expect(a < c, "\(a.name) \(b.name) \(c.name)") }
        }
    }

    @Test("it agrees with the specification's text done slowly", arguments: 0..<8)
    func reference(seed: UInt64) {
        var random = SeededRandom(seed: 100 + seed)
        for _ in 0..<4_000 {
            let (left, right) = (Self.name(&random), Self.name(&random))
            guard let own = SemanticVersion(left), let other = SemanticVersion(right) else { continue }
            let order = SlowPrecedence.compare(left, right)
            #expect((own < other) == (order < 0), "\(left) \(right)")
            #expect((own == other) == (order == 0), "\(left) \(right)")
        }
    }
}

/// Section 11 word by word, on text, with numbers padded to one length.
private enum SlowPrecedence {
    static func compare(_ left: String, _ right: String) -> Int {
        let own = parts(left)
        let other = parts(right)
        let core = compareLists(own.core.map { ($0, true) }, other.core.map { ($0, true) })
        if core != 0 { return core }
        switch (own.pre, other.pre) {
        case (nil, nil): return 0
        case (nil, _): return 1
        case (_, nil): return -1
        case (let own?, let other?):
            return compareLists(own.map { ($0, isNumeric($0)) }, other.map { ($0, isNumeric($0)) })
        }
    }

    private static func parts(_ text: String) -> (core: [String], pre: [String]?) {
        let precedence = text.split(separator: "+", maxSplits: 1)[0]
        let halves = precedence.split(separator: "-", maxSplits: 1)
        return (
            halves[0].split(separator: ".").map(String.init),
            halves.count == 2 ? halves[1].split(separator: ".").map(String.init) : nil
        )
    }

    private static func isNumeric(_ text: String) -> Bool { text.allSatisfy { "0123456789".contains($0) } }

    private static func compareLists(_ left: [(String, Bool)], _ right: [(String, Bool)]) -> Int {
        for ((own, ownIsNumber), (other, otherIsNumber)) in zip(left, right) {
            if ownIsNumber != otherIsNumber { return ownIsNumber ? -1 : 1 }
            let own = ownIsNumber ? padded(own) : own
            let other = otherIsNumber ? padded(other) : other
            let (ownBytes, otherBytes) = (Array(own.utf8), Array(other.utf8))
            for (a, b) in zip(ownBytes, otherBytes) where a != b { return a < b ? -1 : 1 }
            if ownBytes.count != otherBytes.count { return ownBytes.count < otherBytes.count ? -1 : 1 }
        }
        return left.count - right.count
    }

    private static func padded(_ digits: String) -> String {
        String(repeating: "0", count: 40 - digits.count) + digits
    }
}
