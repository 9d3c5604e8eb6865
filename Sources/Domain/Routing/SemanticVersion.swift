/// A version by Semantic Versioning 2.0.0 (https://semver.org/spec/v2.0.0.html), ordered by its precedence (section 11).
///
/// Build metadata has no part in precedence (section 10) and is not kept: two versions that differ in it alone are equal here.
public struct SemanticVersion: Hashable, Comparable, Sendable {
    /// Major, minor and patch: decimal digits without leading zeros, of any length.
    private let core: [[UInt8]]
    /// Empty for a release.
    private let preRelease: [Identifier]

    /// One part of a pre-release between its dots.
    private enum Identifier: Hashable {
        case number(digits: [UInt8])
        case text([UInt8])
    }

    public var isPreRelease: Bool { !preRelease.isEmpty }

    /// - Returns: `nil` for anything that the specification's grammar does not make, `v1.0.0` and `1.0` among it.
    public init?(_ text: some StringProtocol) {
        var rest = Array(text.utf8)[...]
        if let plus = rest.firstIndex(of: UInt8(ascii: "+")) {
            guard Self.identifiers(rest[(plus + 1)...])?.allSatisfy(Self.isIdentifier) == true else { return nil }
            rest = rest[..<plus]
        }
        var preRelease: [Identifier] = []
        if let hyphen = rest.firstIndex(of: UInt8(ascii: "-")) {
            guard let parts = Self.identifiers(rest[(hyphen + 1)...]) else { return nil }
            for part in parts {
                guard Self.isIdentifier(part) else { return nil }
                if part.allSatisfy(Self.isDigit) {
                    guard Self.isNumber(part) else { return nil }
                    preRelease.append(.number(digits: Array(part)))
                } else {
                    preRelease.append(.text(Array(part)))
                }
            }
            rest = rest[..<hyphen]
        }
        guard let core = Self.identifiers(rest), core.count == 3, core.allSatisfy(Self.isNumber) else { return nil }
        self.core = core.map { Array($0) }
        self.preRelease = preRelease
    }

    public static func < (left: SemanticVersion, right: SemanticVersion) -> Bool {
        for (own, other) in zip(left.core, right.core) where own != other { return isLess(own, other) }
        switch (left.preRelease.isEmpty, right.preRelease.isEmpty) {
        case (true, _): return false
        case (false, true): return true
        case (false, false): break
        }
        for (own, other) in zip(left.preRelease, right.preRelease) where own != other {
            switch (own, other) {
            case (.number(let own), .number(let other)): return isLess(own, other)
            case (.number, .text): return true
            case (.text, .number): return false
            case (.text(let own), .text(let other)): return own.lexicographicallyPrecedes(other)
            }
        }
        return left.preRelease.count < right.preRelease.count
    }

    /// Compares numbers of any length: without leading zeros the longer one is the greater.
    private static func isLess(_ left: [UInt8], _ right: [UInt8]) -> Bool {
        left.count == right.count ? left.lexicographicallyPrecedes(right) : left.count < right.count
    }

    /// The parts between dots; `nil` where one is empty.
    private static func identifiers(_ bytes: ArraySlice<UInt8>) -> [ArraySlice<UInt8>]? {
        let parts = bytes.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        return parts.allSatisfy { !$0.isEmpty } ? parts : nil
    }

    private static func isIdentifier(_ bytes: ArraySlice<UInt8>) -> Bool {
        bytes.allSatisfy { byte in
            isDigit(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte) || byte == UInt8(ascii: "-")
        }
    }

    private static func isNumber(_ bytes: ArraySlice<UInt8>) -> Bool {
        bytes.allSatisfy(isDigit) && (bytes.first != UInt8(ascii: "0") || bytes.count == 1)
    }

    private static func isDigit(_ byte: UInt8) -> Bool { (0x30...0x39).contains(byte) }
}

/// A version's place among the versions of its model: semantic ones by precedence, all others below them by their bytes. Total: of two
/// names one is less, unless they are the same.
public struct VersionRank: Comparable, Sendable {
    public let name: String
    public let semantic: SemanticVersion?

    public init(_ name: String) {
        self.name = name
        semantic = SemanticVersion(name)
    }

    public static func == (left: VersionRank, right: VersionRank) -> Bool { left.name == right.name }

    public static func < (left: VersionRank, right: VersionRank) -> Bool {
        switch (left.semantic, right.semantic) {
        case (nil, .some): return true
        case (.some, nil): return false
        case (let own?, let other?) where own != other: return own < other
        // Build metadata alone tells them apart, or neither is semantic.
        case (.some, .some), (nil, nil): return left.name.utf8.lexicographicallyPrecedes(right.name.utf8)
        }
    }

    /// The greatest release; where there is none the greatest pre-release, and where there is neither the last of the others.
    public static func latest(of names: some Sequence<String>) -> String? {
        let ranks = names.map(VersionRank.init)
        let releases = ranks.filter { $0.semantic.map { !$0.isPreRelease } ?? false }
        return (releases.isEmpty ? ranks : releases).max()?.name
    }
}
