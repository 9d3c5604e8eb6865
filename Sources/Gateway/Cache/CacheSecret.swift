internal import Crypto
internal import Domain
internal import HTTPListener
internal import NIOCore

/// A tenant's own secret of the cache: what makes its keys, and the codes by which it knows its entries again.
///
/// It follows from the server's pepper and the tenant's id (HKDF, RFC 5869) and is written nowhere. So two tenants never share a key, whatever
/// they ask, and whoever reads or writes Redis or the table can neither tell what was asked nor make an entry that is believed.
struct CacheSecret: Sendable {
    /// Have read the secret and a word for their use; copies read on.
    private let keys: HMAC<SHA256>
    private let codes: HMAC<SHA256>

    init(pepper: [UInt8], tenantID: TenantID) {
        let secret = HKDF<SHA256>.deriveKey(
            inputKeyMaterial: SymmetricKey(data: pepper), info: Array("weir prediction cache 1 \(tenantID)".utf8),
            outputByteCount: 32)
        var hash = HMAC<SHA256>(key: secret)
        hash.update(data: [UInt8(1)])
        keys = hash
        hash = HMAC<SHA256>(key: secret)
        hash.update(data: [UInt8(2)])
        codes = hash
    }

    /// The key of a question.
    /// - Parameter stickyField: says which version the caller stays with, and no more; the version is in the key.
    func key(
        of request: InferenceRequest, model: String, version: String, policy: CachePolicy, label: String?,
        stickyField: String? = nil
    ) -> CacheKey {
        var text = ByteBuffer()
        text.reserveCapacity(128 + Int(request.byteCount))
        // No part holds a line feed.
        text.writeString(model)
        text.writeStaticString("\n")
        text.writeString(version)
        text.writeStaticString("\n")
        if let label { text.writeString(label) }
        text.writeStaticString("\n")
        request.writeQuestion(policy.sameness, without: stickyField, to: &text)
        var hash = keys
        text.withUnsafeReadableBytes { hash.update(data: $0) }
        return hash.finalize().withUnsafeBytes { code in
            CacheKey(
                code.loadUnaligned(fromByteOffset: 0, as: UInt64.self).bigEndian,
                code.loadUnaligned(fromByteOffset: 8, as: UInt64.self).bigEndian,
                code.loadUnaligned(fromByteOffset: 16, as: UInt64.self).bigEndian,
                code.loadUnaligned(fromByteOffset: 24, as: UInt64.self).bigEndian)
        }
    }

    /// 32 bytes that nobody without the secret can make for this key and these bytes.
    func code(of bytes: [UInt8], under key: CacheKey) -> [UInt8] {
        var hash = codes
        hash.update(data: Array(key.text.utf8))
        hash.update(data: bytes)
        return Array(hash.finalize())
    }

    func isCode(_ code: [UInt8], of bytes: [UInt8], under key: CacheKey) -> Bool {
        var hash = codes
        hash.update(data: Array(key.text.utf8))
        hash.update(data: bytes)
        // Takes the same time wherever they differ.
        return hash.finalize() == code
    }
}

extension InferenceRequest {
    /// Writes what this request has in common with those that are the same question to the model.
    fileprivate func writeQuestion(
        _ sameness: CachePolicy.Sameness, without stickyField: String?, to buffer: inout ByteBuffer
    ) {
        switch self {
        case .predict(let request): request.writeQuestion(sameness, without: stickyField, to: &buffer)
        case .openAI(let request):
            buffer.writeString(request.surface.operation)
            buffer.writeStaticString("\n")
            var without = OpenAIRequest.fieldsBesideTheQuestion
            if let stickyField { without.insert(stickyField) }
            request.tape.writeCanonical(to: &buffer, without: without)
        }
    }
}

extension OpenAIRequest {
    /// What says who asks and how the answer is sent, not what is asked.
    fileprivate static let fieldsBesideTheQuestion: Set = [
        "model", "user", "metadata", "stream", "stream_options", "store", "service_tier", "safety_identifier",
        "prompt_cache_key",
    ]
}

extension PredictRequest {
    /// Writes what this request has in common with those that are the same question to the model.
    fileprivate func writeQuestion(
        _ sameness: CachePolicy.Sameness, without stickyField: String?, to buffer: inout ByteBuffer
    ) {
        switch sameness {
        case .canonicalJSON:
            buffer.writeStaticString("json\n")
            var without: Set = ["model", "version", "id", "metadata", "user"]
            if let stickyField { without.insert(stickyField) }
            tape.writeCanonical(to: &buffer, without: without)
        case .tensors:
            // One row and a batch of one row are answered differently.
            buffer.writeStaticString(isBatch ? "rows" : "row")
            tape.bytes.withUnsafeReadableBytes { bytes in
                for row in rows {
                    buffer.writeStaticString("\n")
                    tape.forEachElement(of: row) { element in
                        let token = tape.tokens[element.index]
                        buffer.writeDecimalForm(bytes[Int(token.start)..<Int(token.end)])
                        buffer.writeStaticString(",")
                    }
                }
            }
        }
    }
}
