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
}

/// One process that serves a model.
public struct Replica: Hashable, Sendable {
    public let address: WorkerAddress
    public let workerProtocol: WorkerProtocol
    /// Relative share of requests, 1 to 1,000.
    public let weight: Int
    /// The model version that the replica serves; empty where the route does not say.
    public let version: String

    public init(address: WorkerAddress, workerProtocol: WorkerProtocol, weight: Int, version: String) {
        self.address = address
        self.workerProtocol = workerProtocol
        self.weight = weight
        self.version = version
    }
}

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
}

/// What the registry says about a model.
public struct ModelProfile: Hashable, Sendable {
    public let name: String
    public let version: String
    /// Numbers that one input row has; `nil` leaves the check to the worker.
    public let featureCount: Int?
    /// Tokens that a request counts where that is how it is counted, or where the worker reports none.
    public let fixedTokensPerRequest: Int64
    /// The most output tokens that a request can produce; part of the upper bound that is held.
    public let maximumOutputTokens: Int64
    public let tokenCounting: TokenCounting
    /// 1 to 1,000; for ``TokenCounting/payload``.
    public let bytesPerToken: Int64
    public let cache: CachePolicy

    public init(
        name: String, version: String, featureCount: Int?, fixedTokensPerRequest: Int64, maximumOutputTokens: Int64,
        tokenCounting: TokenCounting = .worker, bytesPerToken: Int64 = 4, cache: CachePolicy = .off
    ) {
        self.name = name
        self.version = version
        self.featureCount = featureCount
        self.fixedTokensPerRequest = fixedTokensPerRequest
        self.maximumOutputTokens = maximumOutputTokens
        self.tokenCounting = tokenCounting
        self.bytesPerToken = bytesPerToken
        self.cache = cache
    }
}

/// A model that can be called: its profile and the replicas that serve it.
public struct ModelRoute: Hashable, Sendable {
    public let profile: ModelProfile
    public let replicas: [Replica]

    public init(profile: ModelProfile, replicas: [Replica]) {
        self.profile = profile
        self.replicas = replicas
    }
}

/// Every model and its replicas, frozen: built whole, swapped whole, only read by requests.
public struct RouteTable: Sendable {
    /// Where the replicas came from; shown by the health check.
    public enum Source: String, Sendable {
        case registry
        case redis
    }

    private let routes: [String: ModelRoute]
    public let source: Source

    public init(_ routes: [ModelRoute], source: Source) {
        self.routes = Dictionary(routes.map { ($0.profile.name, $0) }) { _, last in last }
        self.source = source
    }

    public static let empty = RouteTable([], source: .registry)

    public subscript(model: String) -> ModelRoute? { routes[model] }

    public var models: [ModelRoute] { routes.values.sorted { $0.profile.name < $1.profile.name } }
}
