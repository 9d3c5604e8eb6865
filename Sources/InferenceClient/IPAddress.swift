internal import NIOCore

/// An IPv4 or IPv6 address as a number. An IPv4-mapped IPv6 address is the IPv4 address that it maps.
struct IPAddress: Hashable, Sendable {
    enum Family {
        case v4, v6
    }

    let family: Family
    /// The 128 bits; an IPv4 address is in the last 32.
    let high: UInt64
    let low: UInt64

    init(v4 value: UInt32) {
        self.init(family: .v4, high: 0, low: UInt64(value))
    }

    init(v6 high: UInt64, _ low: UInt64) {
        if high == 0, low >> 32 == 0xFFFF {
            self.init(v4: UInt32(truncatingIfNeeded: low))
            return
        }
        self.init(family: .v6, high: high, low: low)
    }

    private init(family: Family, high: UInt64, low: UInt64) {
        self.family = family
        self.high = high
        self.low = low
    }

    /// Reads four decimal numbers without leading zeros, or any IPv6 notation without a zone.
    init?(_ text: String) {
        if text.utf8.contains(UInt8(ascii: ":")) {
            guard let address = try? SocketAddress(ipAddress: text, port: 0) else { return nil }
            self.init(address)
            return
        }
        var value: UInt32 = 0
        let parts = text.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        guard parts.count == 4 else { return nil }
        for part in parts {
            guard (1...3).contains(part.count), part.count == 1 || part.first != UInt8(ascii: "0") else { return nil }
            var number: UInt32 = 0
            for byte in part {
                guard (0x30...0x39).contains(byte) else { return nil }
                number = number * 10 + UInt32(byte - 0x30)
            }
            guard number <= 255 else { return nil }
            value = value << 8 | number
        }
        self.init(v4: value)
    }

    init?(_ address: SocketAddress) {
        // Read by offset, which is the same on Linux and macOS: `sockaddr_in` has its address at byte 4, `sockaddr_in6`
        // at byte 8.
        let bytes = address.withSockAddr { pointer, length in
            Array(UnsafeRawBufferPointer(start: pointer, count: length))
        }
        switch address {
        case .v4 where bytes.count >= 8:
            self.init(v4: UInt32(truncatingIfNeeded: Self.number(bytes[4..<8])))
        case .v6 where bytes.count >= 24:
            self.init(v6: Self.number(bytes[8..<16]), Self.number(bytes[16..<24]))
        default: return nil
        }
    }

    private static func number(_ bytes: ArraySlice<UInt8>) -> UInt64 {
        bytes.reduce(0) { $0 << 8 | UInt64($1) }
    }

    /// Whether no worker can be there, whatever a policy says: "this network", link-local, multicast and broadcast
    /// addresses, and the address of a cloud's metadata service in IPv6. An IPv4 address inside an IPv6 one (RFC 4291
    /// compatible, RFC 6052, RFC 3056) counts as the IPv4 address.
    var isNeverWorker: Bool {
        switch family {
        case .v4:
            return low >> 24 == 0 || low >> 16 == 0xA9FE || low >> 28 == 0xE || low == 0xFFFF_FFFF
        case .v6:
            if high >> 54 == 0xFE80 >> 6 || high >> 56 == 0xFF { return true }
            if high == 0xFD00_0EC2 << 32, low == 0x254 { return true }
            return embeddedV4?.isNeverWorker ?? false
        }
    }

    private var embeddedV4: IPAddress? {
        if high == 0x0064_FF9B << 32, low >> 32 == 0 { return IPAddress(v4: UInt32(truncatingIfNeeded: low)) }
        if high >> 48 == 0x2002 { return IPAddress(v4: UInt32(truncatingIfNeeded: high >> 16)) }
        if high == 0, low >> 32 == 0, low != 1 { return IPAddress(v4: UInt32(truncatingIfNeeded: low)) }
        return nil
    }
}

/// All addresses that begin with the same bits.
struct AddressBlock: Sendable {
    private let base: IPAddress
    private let length: Int

    /// A block of IPv4 addresses by its first two numbers.
    init(v4 first: UInt32, _ second: UInt32, length: Int) {
        base = IPAddress(v4: first << 24 | second << 16)
        self.length = length
    }

    init(high: UInt64, low: UInt64, length: Int) {
        base = IPAddress(v6: high, low)
        self.length = length
    }

    /// Reads `address/length`, or an address alone.
    init?(_ text: String) {
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        guard let first = parts.first, let base = IPAddress(String(first)) else { return nil }
        let width = base.family == .v4 ? 32 : 128
        var length = width
        if parts.count == 2 {
            guard (1...3).contains(parts[1].utf8.count), parts[1].utf8.allSatisfy({ (0x30...0x39).contains($0) }),
                let number = Int(parts[1]), number <= width
            else { return nil }
            length = number
        }
        self.base = base
        self.length = length
        guard Self.masked(base, length) == (base.high, base.low) else { return nil }
    }

    func contains(_ address: IPAddress) -> Bool {
        address.family == base.family && Self.masked(address, length) == (base.high, base.low)
    }

    private static func masked(_ address: IPAddress, _ length: Int) -> (UInt64, UInt64) {
        let kept = address.family == .v4 ? length + 96 : length
        // A shift by the full width of the type gives zero in Swift.
        let highMask = ~UInt64(0) << UInt64(max(0, 64 - kept))
        let lowMask = ~UInt64(0) << UInt64(min(64, 128 - kept))
        return (address.high & highMask, address.low & lowMask)
    }
}
