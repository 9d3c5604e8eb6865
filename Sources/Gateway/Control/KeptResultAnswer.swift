internal import Domain

/// What is told of a request's result, but for the result itself.
struct KeptResultAnswer: Encodable {
    /// `kept`, `gone`, `digest` or `none`.
    let state: String
    var url: String?
    var mediaType: String?
    var byteCount: Int?
    var digest: String?
    var expiresAt: String?

    enum CodingKeys: String, CodingKey {
        case state, url
        case mediaType = "content_type"
        case byteCount = "bytes"
        case digest = "sha256"
        case expiresAt = "expires_at"
    }

    init(_ result: ResultState, of id: String) {
        switch result {
        case .none: state = "none"
        case .gone: state = "gone"
        case .digest(let digest):
            state = "digest"
            self.digest = digest.hexadecimal
        case .kept(let kept):
            state = "kept"
            url = "/api/v1/requests/\(id)/result"
            mediaType = kept.mediaType
            byteCount = kept.byteCount
            digest = kept.digest.hexadecimal
            expiresAt = kept.expiresAt.description
        }
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(state, forKey: .state)
        try container.encode(url, forKey: .url)
        try container.encode(mediaType, forKey: .mediaType)
        try container.encode(byteCount, forKey: .byteCount)
        try container.encode(digest, forKey: .digest)
        try container.encode(expiresAt, forKey: .expiresAt)
    }
}
