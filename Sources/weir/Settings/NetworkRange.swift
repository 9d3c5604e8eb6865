import Glibc

/// A numeric IPv4 or IPv6 address.
struct NetworkAddress: Hashable, Sendable {
    /// Four or sixteen bytes in network order.
    let bytes: [UInt8]

    /// Reads the usual numeric forms; a name is `nil`, because what a name means can change between the check and the use.
    init?(_ text: some StringProtocol) {
        let text = String(text)
        var version4 = in_addr()
        var version6 = in6_addr()
        if inet_pton(AF_INET, text, &version4) == 1 {
            bytes = withUnsafeBytes(of: &version4) { Array($0) }
        } else if inet_pton(AF_INET6, text, &version6) == 1 {
            let all = withUnsafeBytes(of: &version6) { Array($0) }
            // ::ffff:a.b.c.d is the IPv4 address; left as it is it would pass by every IPv4 range.
            let isMapped = all[..<10].allSatisfy { $0 == 0 } && all[10] == 0xFF && all[11] == 0xFF
            bytes = isMapped ? Array(all[12...]) : all
        } else {
            return nil
        }
    }
}

/// Addresses that share a prefix, as in `10.0.0.0/8`.
struct NetworkRange: Hashable, Sendable, CustomStringConvertible {
    private let network: [UInt8]
    private let prefixLength: Int
    let description: String

    /// Reads `address/prefix length`; an address alone means itself. Bits behind the prefix are refused: they are a typing error.
    init?(_ text: some StringProtocol) {
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        guard let address = NetworkAddress(parts[0]) else { return nil }
        var length = address.bytes.count * 8
        if parts.count == 2 {
            guard !parts[1].isEmpty, parts[1].utf8.allSatisfy({ (0x30...0x39).contains($0) }), let given = Int(parts[1]), given <= length
            else { return nil }
            length = given
        }
        guard Self.masked(address.bytes, length) == address.bytes else { return nil }
        network = address.bytes
        prefixLength = length
        description = String(text)
    }

    func contains(_ address: NetworkAddress) -> Bool {
        address.bytes.count == network.count && Self.masked(address.bytes, prefixLength) == network
    }

    private static func masked(_ bytes: [UInt8], _ length: Int) -> [UInt8] {
        bytes.enumerated().map { index, byte in
            let kept = max(0, min(8, length - index * 8))
            return kept == 0 ? 0 : byte & (0xFF << UInt8(8 - kept))
        }
    }
}
