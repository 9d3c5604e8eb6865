/// Where an inference worker listens.
public struct WorkerAddress: Hashable, Sendable, CustomStringConvertible {
    /// A numeric address or a name, without brackets.
    public let host: String
    public let port: Int
    public let usesTLS: Bool

    public init(host: String, port: Int, usesTLS: Bool = false) {
        self.host = host
        self.port = port
        self.usesTLS = usesTLS
    }

    /// Reads `host:port`, `[v6]:port`, or either behind `http://` or `https://`. A path, user information or a query is refused: a worker
    /// is an address, and what is sent to it is ours to say.
    public init?(_ text: some StringProtocol) {
        var rest = text[...]
        var usesTLS = false
        if rest.hasPrefix("http://") {
            rest = rest.dropFirst(7)
        } else if rest.hasPrefix("https://") {
            rest = rest.dropFirst(8)
            usesTLS = true
        }
        guard let colon = rest.lastIndex(of: ":"), let port = Int(rest[rest.index(after: colon)...]),
            (1...65_535).contains(port),
            rest[rest.index(after: colon)...].utf8.allSatisfy({ (0x30...0x39).contains($0) })
        else { return nil }
        var host = rest[..<colon]
        let isBracketed = host.hasPrefix("[") && host.hasSuffix("]")
        if isBracketed { host = host.dropFirst().dropLast() }
        let allowed = host.utf8.allSatisfy { byte in
            switch byte {
            case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "_"): true
            case UInt8(ascii: ":"): isBracketed
            default: false
            }
        }
        guard !host.isEmpty, host.utf8.count <= 253, allowed else { return nil }
        self.init(host: String(host), port: port, usesTLS: usesTLS)
    }

    public var description: String { (host.contains(":") ? "[\(host)]" : host) + ":\(port)" }
}

/// How a worker is spoken to.
public enum WorkerProtocol: String, Sendable, CaseIterable {
    /// Open Inference Protocol v2 over HTTP.
    case oip
    /// `POST /predict` with plain JSON.
    case predict
    /// The OpenAI API, under `/v1`.
    case openai
}

/// One process that serves a model.
public struct Replica: Hashable, Sendable {
    public let address: WorkerAddress
    public let workerProtocol: WorkerProtocol
    /// Relative share of requests, 1 to 1,000.
    public let weight: Int
    /// The model version that the replica serves; empty where the route does not say.
    public let version: String
    /// What the gateway keeps about it from one table to the next; no part of what it is.
    public private(set) var runtime: (any ReplicaRuntime)?

    public init(address: WorkerAddress, workerProtocol: WorkerProtocol, weight: Int, version: String) {
        self.address = address
        self.workerProtocol = workerProtocol
        self.weight = weight
        self.version = version
    }

    /// The same replica with what is kept about it, so that a request need not look it up.
    public func bound(to runtime: any ReplicaRuntime) -> Replica {
        var bound = self
        bound.runtime = runtime
        return bound
    }

    public static func == (one: Replica, other: Replica) -> Bool {
        one.address == other.address && one.workerProtocol == other.workerProtocol && one.weight == other.weight
            && one.version == other.version
    }

    public func hash(into hasher: inout Hasher) {
        hasher.combine(address)
        hasher.combine(workerProtocol)
        hasher.combine(weight)
        hasher.combine(version)
    }
}

/// What a gateway keeps about a replica while the process runs: counts and health. Only the gateway knows what is in it.
public protocol ReplicaRuntime: AnyObject, Sendable {}

/// A model's name as requests, routes and prices spell it.
public enum ModelName {
    /// `^[a-z0-9][a-z0-9._-]{0,127}$` and no `..`: a name becomes part of a path on the worker's side.
    public static func isValid(_ bytes: some Collection<UInt8>) -> Bool {
        guard let first = bytes.first, bytes.count <= 128, isAlphanumeric(first) else { return false }
        var previous = first
        for byte in bytes.dropFirst() {
            guard
                isAlphanumeric(byte) || byte == UInt8(ascii: ".") || byte == UInt8(ascii: "_")
                    || byte == UInt8(ascii: "-")
            else {
                return false
            }
            if byte == UInt8(ascii: "."), previous == UInt8(ascii: ".") { return false }
            previous = byte
        }
        return true
    }

    private static func isAlphanumeric(_ byte: UInt8) -> Bool {
        (0x30...0x39).contains(byte) || (0x61...0x7A).contains(byte)
    }
}

/// A version of a model as requests, routes and the registry spell it.
public enum ModelVersionName {
    /// 1 to 128 of `[A-Za-z0-9._+-]`, no `..` and not a dot alone: a version becomes part of a path on the worker's side, so it must not be
    /// able to lead anywhere else.
    public static func isValid(_ bytes: some Collection<UInt8>) -> Bool {
        var previous: UInt8 = 0
        for byte in bytes {
            switch byte {
            case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, UInt8(ascii: "_"), UInt8(ascii: "+"), UInt8(ascii: "-"): break
            case UInt8(ascii: ".") where previous != UInt8(ascii: "."): break
            default: return false
            }
            previous = byte
        }
        return (1...128).contains(bytes.count) && !bytes.elementsEqual(".".utf8)
    }

    /// In a request: the greatest version in service. No version can be called so.
    public static let latest = "latest"
}

/// What the registry says about a model.
public struct ModelProfile: Hashable, Sendable {
    public let name: String
    public internal(set) var version: String
    /// Numbers that one input row has; `nil` leaves the check to the worker.
    public internal(set) var featureCount: Int?
    /// Tokens that a request counts where that is how it is counted, or where the worker reports none.
    public internal(set) var fixedTokensPerRequest: Int64
    /// The most output tokens that a request can produce; part of the upper bound that is held.
    public internal(set) var maximumOutputTokens: Int64
    public internal(set) var tokenCounting: TokenCounting
    /// 1 to 1,000; for ``TokenCounting/payload``.
    public internal(set) var bytesPerToken: Int64
    /// How its replicas are called.
    public let delivery: DeliverySettings
    public let cache: CachePolicy

    public init(
        name: String, version: String, featureCount: Int?, fixedTokensPerRequest: Int64, maximumOutputTokens: Int64,
        tokenCounting: TokenCounting = .worker, bytesPerToken: Int64 = 4, delivery: DeliverySettings = .none,
        cache: CachePolicy = .off
    ) {
        self.name = name
        self.version = version
        self.featureCount = featureCount
        self.fixedTokensPerRequest = fixedTokensPerRequest
        self.maximumOutputTokens = maximumOutputTokens
        self.tokenCounting = tokenCounting
        self.bytesPerToken = bytesPerToken
        self.delivery = delivery
        self.cache = cache
    }
}
