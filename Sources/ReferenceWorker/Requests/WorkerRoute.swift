import NIOHTTP1

/// What a path means.
enum WorkerRoute: Equatable {
    case health
    case metrics
    case predict
    case server
    case live
    case ready
    case model(name: String, version: String?)
    case modelReady(name: String, version: String?)
    case infer(name: String, version: String?)

    /// - Parameter uri: the request target, whose query is ignored. Names of models need no percent-encoding, so none
    ///   is decoded.
    init?(uri: String) {
        switch uri {
        case "/predict", "/predict/": self = .predict
        default: self.init(path: uri.prefix { $0 != "?" && $0 != "#" })
        }
    }

    private init?(path: Substring) {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false).dropFirst().map(String.init)
        switch parts {
        case ["health"]: self = .health
        case ["metrics"]: self = .metrics
        case ["predict"], ["predict", ""]: self = .predict
        case ["v2"], ["v2", ""]: self = .server
        case ["v2", "health", "live"]: self = .live
        case ["v2", "health", "ready"]: self = .ready
        default:
            guard parts.count >= 3, parts[0] == "v2", parts[1] == "models", !parts[2].isEmpty else { return nil }
            self.init(model: parts[2], rest: Array(parts[3...]))
        }
    }

    private init?(model name: String, rest: [String]) {
        var rest = rest[...]
        var version: String?
        if rest.first == "versions" {
            guard rest.count >= 2 else { return nil }
            version = rest[rest.startIndex + 1]
            rest = rest.dropFirst(2)
        }
        switch Array(rest) {
        case []: self = .model(name: name, version: version)
        case ["ready"]: self = .modelReady(name: name, version: version)
        case ["infer"]: self = .infer(name: name, version: version)
        default: return nil
        }
    }

    /// The methods that the route takes, as `Allow` lists them. `HEAD` goes with `GET` (RFC 9110, section 9.3.2).
    var allowedMethods: [HTTPMethod] {
        switch self {
        case .predict, .infer: [.POST]
        default: [.GET, .HEAD]
        }
    }
}
