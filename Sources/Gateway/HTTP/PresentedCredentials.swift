internal import HTTPListener

extension RequestFields {
    /// `Authorization: Bearer`, `x-api-key` or `api-key`; the same key in several of them is one.
    var credentials: Credentials {
        // The field may stand once (RFC 9110, section 11.6.2): two of them are no credential, whatever they say.
        guard authorizationCount <= 1 else { return .unusable }
        var found: [UInt8]?
        if let authorization {
            guard let token = Self.bearerToken(authorization) else {
                return apiKeys.isEmpty ? .unusable : .conflicting
            }
            found = token
        }
        for value in apiKeys {
            let bytes = Array(value.utf8)
            if let found, found != bytes { return .conflicting }
            found = bytes
        }
        return found.map { .one($0) } ?? .none
    }

    private static func bearerToken(_ value: String) -> [UInt8]? {
        let bytes = Array(value.utf8)
        guard bytes.count > 7, bytes.withUnsafeBytes({ Bytes.equal($0[..<7], "bearer ") }) else { return nil }
        let start = bytes[7...].firstIndex { $0 != 0x20 } ?? bytes.endIndex
        return Array(bytes[start...])
    }
}
