internal import Domain
internal import NIOCore

/// Which addresses a worker may have.
///
/// A registry that anybody can write an address into makes the gateway a way into its network (server-side request
/// forgery). So only listed blocks are connected to, and some addresses never are, because what answers there is not a
/// worker: link-local addresses hold the metadata services of clouds, and `0.0.0.0/8` reaches the gateway's own host.
public struct WorkerAddressPolicy: Sendable {
    /// How an address is reached, as far as its text says.
    enum Target {
        case numeric(SocketAddress)
        /// A name. What it resolves to is checked when it is known.
        case named
        case refused
    }

    private let allowed: [AddressBlock]

    /// Loopback, the private blocks of RFC 1918 and the unique local addresses of RFC 4193.
    public static let standard = WorkerAddressPolicy(allowed: [
        AddressBlock(v4: 127, 0, length: 8), AddressBlock(v4: 10, 0, length: 8), AddressBlock(v4: 172, 16, length: 12),
        AddressBlock(v4: 192, 168, length: 16), AddressBlock(high: 0, low: 1, length: 128),
        AddressBlock(high: 0xFC00 << 48, low: 0, length: 7),
    ])

    private init(allowed: [AddressBlock]) {
        self.allowed = allowed
    }

    /// - Parameter blocks: address blocks such as `10.0.0.0/8` or `fd00::/8`; a bare address is a block of one.
    /// - Returns: `nil` if one of them is no block, for example because bits behind its length are set.
    public init?(allowing blocks: [String]) {
        var allowed: [AddressBlock] = []
        for text in blocks {
            guard let block = AddressBlock(text) else { return nil }
            allowed.append(block)
        }
        self.init(allowed: allowed)
    }

    /// Whether a numeric address may be connected to. A name is not one, nor is an IPv4 address in any other notation
    /// than four decimal numbers.
    public func permits(numericHost: String) -> Bool {
        IPAddress(numericHost).map(permits) ?? false
    }

    func permits(_ address: IPAddress) -> Bool {
        !address.isNeverWorker && allowed.contains { $0.contains(address) }
    }

    func target(of address: WorkerAddress) -> Target {
        guard (1...65_535).contains(address.port) else { return .refused }
        if let numeric = IPAddress(address.host) {
            guard permits(numeric), let socketAddress = try? SocketAddress(ipAddress: address.host, port: address.port)
            else {
                return .refused
            }
            return .numeric(socketAddress)
        }
        return Self.isName(address.host) ? .named : .refused
    }

    /// A host name whose last label is not numeric: `2130706433`, `0x7f.1`, `127.1` and `0177.0.0.1` are read as IPv4
    /// addresses by `getaddrinfo`, and nobody writes an address like that who means well.
    static func isName(_ host: String) -> Bool {
        guard (1...253).contains(host.utf8.count) else { return false }
        let labels = host.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        let named = labels.last?.isEmpty == true ? labels.dropLast() : labels[...]
        guard let last = named.last, !isNumeric(last) else { return false }
        return named.allSatisfy { label in
            (1...63).contains(label.count)
                && label.allSatisfy { byte in
                    switch byte {
                    case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, UInt8(ascii: "-"), UInt8(ascii: "_"): true
                    default: false
                    }
                }
        }
    }

    private static func isNumeric(_ label: Substring.UTF8View) -> Bool {
        if label.allSatisfy({ (0x30...0x39).contains($0) }) { return true }
        guard label.count >= 2, label.first == UInt8(ascii: "0") else { return false }
        return label.dropFirst().first.map { $0 | 0x20 } == UInt8(ascii: "x")
    }
}
