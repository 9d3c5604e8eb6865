/// A name that a caller gives to what it asks, and the patterns by which such names are cleared.
public enum CachePattern {
    public static let byteLimit = 128

    /// 1 to 128 of `A-Z a-z 0-9 . _ : -`.
    public static func isLabel(_ text: String) -> Bool {
        (1...byteLimit).contains(text.utf8.count) && text.utf8.allSatisfy(isLabelByte)
    }

    /// A label in which `*` stands for any characters, also none, and `?` for one.
    public static func isPattern(_ text: String) -> Bool {
        (1...byteLimit).contains(text.utf8.count)
            && text.utf8.allSatisfy { isLabelByte($0) || $0 == UInt8(ascii: "*") || $0 == UInt8(ascii: "?") }
    }

    /// Takes time in proportion to the product of the lengths at most, whatever the pattern.
    public static func matches(_ pattern: String, _ label: String) -> Bool {
        matches(Array(pattern.utf8), Array(label.utf8))
    }

    static func matches(_ pattern: [UInt8], _ label: [UInt8]) -> Bool {
        var (p, l) = (0, 0)
        var star: (pattern: Int, label: Int)?
        while l < label.count {
            if p < pattern.count, pattern[p] == UInt8(ascii: "*") {
                star = (p, l)
                p += 1
            } else if p < pattern.count, pattern[p] == UInt8(ascii: "?") || pattern[p] == label[l] {
                p += 1
                l += 1
            } else if let last = star {
                p = last.pattern + 1
                l = last.label + 1
                star = (last.pattern, l)
            } else {
                return false
            }
        }
        return pattern[p...].allSatisfy { $0 == UInt8(ascii: "*") }
    }

    private static func isLabelByte(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
        case UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: ":"), UInt8(ascii: "-"): true
        default: false
        }
    }
}

/// An order to forget cached predictions: of a tenant, of a model, of both, or of a tenant those whose label fits a pattern.
public struct CacheClearing: Hashable, Sendable {
    /// Grows with every clearing of the installation, in the order of their commits.
    public let sequence: Int64
    /// `nil` for all tenants; only for a whole model.
    public let tenantID: TenantID?
    /// `nil` for all models.
    public let model: String?
    /// `nil` for all labels, and for entries without one.
    public let pattern: String?

    public init(sequence: Int64, tenantID: TenantID?, model: String?, pattern: String?) {
        self.sequence = sequence
        self.tenantID = tenantID
        self.model = model
        self.pattern = pattern
    }
}

/// The clearings that can still concern an entry. An entry remembers up to which clearing it is known to be younger; a look-up compares that
/// one number, and asks here only when something was cleared since. So nothing is searched, and entries that no gateway can
/// reach, in Redis for example, are as dead as those at hand.
public struct CacheClearings: Sendable {
    private struct Scope: Hashable {
        let tenantID: TenantID?
        let model: String?
    }

    private struct Pattern {
        let sequence: Int64
        let model: String?
        let bytes: [UInt8]
    }

    /// The newest of each scope.
    private var whole: [Scope: Int64] = [:]
    private var patterns: [TenantID: [Pattern]] = [:]
    public private(set) var newest: Int64 = 0

    public init(_ clearings: [CacheClearing] = []) {
        for clearing in clearings {
            newest = max(newest, clearing.sequence)
            if let pattern = clearing.pattern, let tenantID = clearing.tenantID {
                patterns[tenantID, default: []].append(
                    Pattern(sequence: clearing.sequence, model: clearing.model, bytes: Array(pattern.utf8)))
            } else {
                let scope = Scope(tenantID: clearing.tenantID, model: clearing.model)
                whole[scope] = max(whole[scope] ?? 0, clearing.sequence)
            }
        }
    }

    /// Whether an entry that was made after the clearing `sequence` was cleared later.
    public func hasCleared(since sequence: Int64, tenantID: TenantID, model: String, label: String?) -> Bool {
        guard newest > sequence else { return false }
        if isNewer(Scope(tenantID: tenantID, model: nil), sequence)
            || isNewer(Scope(tenantID: tenantID, model: model), sequence)
            || isNewer(Scope(tenantID: nil, model: model), sequence)
            || isNewer(Scope(tenantID: nil, model: nil), sequence)
        {
            return true
        }
        guard let label, let own = patterns[tenantID] else { return false }
        let bytes = Array(label.utf8)
        return own.contains { clearing in
            clearing.sequence > sequence && clearing.model ?? model == model
                && CachePattern.matches(clearing.bytes, bytes)
        }
    }

    private func isNewer(_ scope: Scope, _ sequence: Int64) -> Bool {
        whole[scope].map { $0 > sequence } ?? false
    }
}
