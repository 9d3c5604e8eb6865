internal import Crypto
internal import Domain
internal import NIOCore

/// What a tenant lets us keep of a prompt and a result: the bytes, or their digests, or nothing.
struct KeptParts {
    private(set) var prompt: [UInt8]?
    private(set) var promptDigest: [UInt8]?
    private(set) var result: [UInt8]?
    private(set) var resultDigest: [UInt8]?
    private(set) var resultID: ResultID?
    private(set) var resultMediaType: String?

    /// - Parameters:
    ///   - text: the prompt as it is kept, which is a text also where the body is none.
    ///   - result: made only where something is kept of it.
    ///   - mediaType: of a result that is no text.
    init(
        under policy: Principal, prompt: ByteBufferView, text: () -> [UInt8], mediaType: String? = nil,
        result: () -> [UInt8]?
    ) {
        guard policy.retention != .none else { return }
        let keepsContents = policy.retention == .full
        if keepsContents, prompt.count <= policy.retentionBytes {
            self.prompt = text()
        } else {
            promptDigest = Self.digest(prompt)
        }
        guard let content = result() else { return }
        let digest = Self.digest(content)
        resultDigest = digest
        guard keepsContents, content.count <= policy.retentionBytes else { return }
        self.result = content
        resultMediaType = mediaType
        resultID = ResultID(
            ofContent: digest, mediaType: mediaType ?? "", tenantID: policy.tenantID,
            generation: policy.retentionGeneration)
    }

    private static func digest(_ bytes: some Sequence<UInt8>) -> [UInt8] {
        var hash = SHA256()
        if bytes.withContiguousStorageIfAvailable({ hash.update(bufferPointer: UnsafeRawBufferPointer($0)) }) == nil {
            hash.update(data: Array(bytes))
        }
        return Array(hash.finalize())
    }
}

extension Identifier where Kind == Entity.Result {
    /// A UUID of version 8 (RFC 9562, section 5.8): the first bits of the SHA-256 of all that makes two contents the same one.
    ///
    /// The tenant is part of it, so no two tenants ever share a content, and one cannot find out what another one has.
    init(ofContent digest: [UInt8], mediaType: String, tenantID: TenantID, generation: Int32) {
        var hash = SHA256()
        hash.update(data: Array("weir result 1".utf8))
        for word in [tenantID.high, tenantID.low, UInt64(bitPattern: Int64(generation))] {
            withUnsafeBytes(of: word.bigEndian) { hash.update(bufferPointer: $0) }
        }
        hash.update(data: digest)
        hash.update(data: Array(mediaType.utf8))
        var words: (UInt64, UInt64) = (0, 0)
        for (position, byte) in hash.finalize().prefix(16).enumerated() {
            if position < 8 { words.0 = words.0 << 8 | UInt64(byte) } else { words.1 = words.1 << 8 | UInt64(byte) }
        }
        self.init(
            high: words.0 & 0xFFFF_FFFF_FFFF_0FFF | 0x8000,
            low: words.1 & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000)
    }
}

extension Retention {
    private var strictness: Int {
        switch self {
        case .full: 0
        case .hashed: 1
        case .none: 2
        }
    }

    /// Whether less is kept than under another policy.
    func isStricter(than other: Retention) -> Bool { strictness > other.strictness }
}
