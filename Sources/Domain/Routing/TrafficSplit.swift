/// By what a caller stays with one version of a model whose requests are divided.
public enum Stickiness: Hashable, Sendable {
    /// Every request is drawn anew.
    case none
    case tenant
    case key
    /// The key's user; a key without one counts as its own.
    case user
    /// A top-level field of the request's body with a string or an integer, for example `session_id`. It is not sent on to the worker.
    case field(String)

    /// `none`, `tenant`, `key`, `user`, or the name of a field: `[A-Za-z_][A-Za-z0-9_.-]{0,63}` and none that a request has already.
    public init?(_ text: String) {
        switch text {
        case "none": self = .none
        case "tenant": self = .tenant
        case "key": self = .key
        case "user": self = .user
        default:
            let bytes = Array(text.utf8)
            guard let first = bytes.first, bytes.count <= 64, !Self.taken.contains(text),
                Self.isLetter(first),
                bytes.allSatisfy({
                    Self.isLetter($0) || (0x30...0x39).contains($0) || $0 == UInt8(ascii: ".")
                        || $0 == UInt8(ascii: "-")
                })
            else { return nil }
            self = .field(text)
        }
    }

    /// The form that ``init(_:)`` reads.
    public var text: String {
        switch self {
        case .none: "none"
        case .tenant: "tenant"
        case .key: "key"
        case .user: "user"
        case .field(let name): name
        }
    }

    /// Fields that mean something else, or that no request may have.
    private static let taken: Set<String> = [
        "model", "version", "features", "inputs", "api_base", "base_url", "url", "callback", "headers",
    ]

    private static func isLetter(_ byte: UInt8) -> Bool {
        (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte) || byte == UInt8(ascii: "_")
    }
}

/// How the requests of a model are divided among its versions.
///
/// The weights lie one behind the other on a line, in the order in which they are given; a point of the line belongs to one version. A
/// weight that grows at the cost of its neighbour moves the points between them and no other.
public struct TrafficSplit: Hashable, Sendable {
    /// The greatest weight of one version.
    public static let weightLimit = 10_000

    public struct Share: Hashable, Sendable {
        public let version: String
        /// 0 to ``weightLimit``, relative to the others.
        public let weight: Int

        public init(version: String, weight: Int) {
            self.version = version
            self.weight = weight
        }
    }

    public let shares: [Share]
    /// Where each share ends on the line.
    private let ends: [UInt64]

    /// - Returns: `nil` where no version has a weight.
    public init?(_ shares: [Share]) {
        var end: UInt64 = 0
        var ends: [UInt64] = []
        for share in shares {
            end += UInt64(min(max(share.weight, 0), Self.weightLimit))
            ends.append(end)
        }
        guard end > 0 else { return nil }
        self.shares = shares
        self.ends = ends
    }

    /// The index of the share that a point belongs to; points are spread over all 64-bit numbers.
    public func index(at point: UInt64) -> Int {
        guard let total = ends.last else { return 0 }
        let place = point.multipliedFullWidth(by: total).high
        return ends.firstIndex { place < $0 } ?? 0
    }
}
