/// A model's version as text, ordered the way people count: 1.10 is later than 1.9.
struct ModelVersion: Comparable {
    let text: String

    /// `^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$` and no `..`: a version becomes part of a path.
    static func isValid(_ text: String) -> Bool {
        guard let first = text.utf8.first, text.utf8.count <= 64, !text.contains("..") else { return false }
        let isAlphanumeric = { (byte: UInt8) in
            switch byte {
            case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
            default: false
            }
        }
        return isAlphanumeric(first) && text.utf8.allSatisfy { isAlphanumeric($0) || "._+-".utf8.contains($0) }
    }

    /// Semantic Versioning 2.0.0, section 11, widened to any number of parts: numbers by value, words by their letters,
    /// and what has a pre-release after a hyphen before what has none. Versions that count the same, like 1 and 1.0,
    /// are ordered by their text.
    static func < (left: ModelVersion, right: ModelVersion) -> Bool {
        let (leftParts, rightParts) = (left.parts, right.parts)
        if let order = compare(leftParts.core, rightParts.core, missing: "0") { return order }
        switch (leftParts.preRelease, rightParts.preRelease) {
        case (nil, nil): break
        case (nil, _): return false
        case (_, nil): return true
        case (let left?, let right?):
            if let order = compare(left, right, missing: nil) { return order }
        }
        return left.text < right.text
    }

    private var parts: (core: [Substring], preRelease: [Substring]?) {
        let withoutBuild = text.prefix { $0 != "+" }
        let core = withoutBuild.prefix { $0 != "-" }
        let preRelease = withoutBuild.dropFirst(core.count + 1)
        return (core.split(separator: "."), core.count < withoutBuild.count ? preRelease.split(separator: ".") : nil)
    }

    /// - Parameter missing: what a shorter list counts as further on; `nil` lets the shorter list be the lesser.
    /// - Returns: whether the left is less; `nil` if neither is.
    private static func compare(_ left: [Substring], _ right: [Substring], missing: Substring?) -> Bool? {
        for index in 0..<max(left.count, right.count) {
            guard let one = index < left.count ? left[index] : missing else { return true }
            guard let other = index < right.count ? right[index] : missing else { return false }
            switch (UInt64(one), UInt64(other)) {
            case (let one?, let other?) where one != other: return one < other
            case (_?, _?): continue
            case (_?, nil): return true
            case (nil, _?): return false
            case (nil, nil): if one != other { return one < other }
            }
        }
        return nil
    }
}
