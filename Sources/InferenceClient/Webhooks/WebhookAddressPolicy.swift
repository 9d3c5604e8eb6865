/// To which addresses webhooks are sent: to all of the public internet and to no other, but for blocks that the operator allows.
///
/// Customers choose these addresses, so without the policy any of them could make the gateway speak to its own network (server-side request
/// forgery). Link-local addresses, which hold the metadata services of clouds, are refused whatever the operator allows.
public struct WebhookAddressPolicy: Sendable {
    /// Whether `http://` is accepted besides `https://`.
    let allowsHTTP: Bool
    private let allowed: [AddressBlock]

    /// - Parameter blocks: address blocks such as `10.0.0.0/8` besides the public ones.
    /// - Returns: `nil` if one of them is no block.
    public init?(allowsHTTP: Bool, allowing blocks: [String]) {
        var allowed: [AddressBlock] = []
        for text in blocks {
            guard let block = AddressBlock(text) else { return nil }
            allowed.append(block)
        }
        self.allowsHTTP = allowsHTTP
        self.allowed = allowed
    }

    /// The public internet by `https://`.
    public static let standard = WebhookAddressPolicy(allowsHTTP: false, allowed: [])

    private init(allowsHTTP: Bool, allowed: [AddressBlock]) {
        self.allowsHTTP = allowsHTTP
        self.allowed = allowed
    }

    func permits(_ address: IPAddress) -> Bool {
        guard !address.isNeverWorker else { return false }
        return allowed.contains { $0.contains(address) } || Self.isPublic(address)
    }

    /// Neither private nor of special use (RFC 6890 and its registries).
    private static func isPublic(_ address: IPAddress) -> Bool {
        switch address.family {
        case .v4: !specialV4.contains { $0.contains(address) }
        // Only 2000::/3 is given out; of that the addresses that hold others are not followed into.
        case .v6: globalV6.contains(address) && !specialV6.contains { $0.contains(address) }
        }
    }

    private static let specialV4 =
        [
            AddressBlock(v4: 0, 0, length: 8), AddressBlock(v4: 10, 0, length: 8),
            AddressBlock(v4: 100, 64, length: 10),
            AddressBlock(v4: 127, 0, length: 8), AddressBlock(v4: 169, 254, length: 16),
            AddressBlock(v4: 172, 16, length: 12),
            AddressBlock(v4: 192, 0, length: 24), AddressBlock(v4: 192, 168, length: 16),
            AddressBlock(v4: 198, 18, length: 15),
            AddressBlock(v4: 224, 0, length: 4), AddressBlock(v4: 240, 0, length: 4),
        ] + ["192.0.2.0/24", "192.88.99.0/24", "198.51.100.0/24", "203.0.113.0/24"].compactMap { AddressBlock($0) }

    private static let globalV6 = AddressBlock(high: 0x2000 << 48, low: 0, length: 3)
    private static let specialV6 = [
        AddressBlock(high: 0x2001 << 48, low: 0, length: 23), AddressBlock(high: 0x2001_0DB8 << 32, low: 0, length: 32),
        AddressBlock(high: 0x2002 << 48, low: 0, length: 16), AddressBlock(high: 0x3FFF << 48, low: 0, length: 20),
    ]
}
