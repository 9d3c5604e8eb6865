internal import Domain
internal import NIOCore
internal import Synchronization

/// The keys of questions that came lately, by the very bytes in which they came.
///
/// A question's key is the digest of its canonical form, which costs more than everything else that a hit in memory does. The same bytes, read
/// by the same surface and asked of the same version under the same rules, have the same key; who asks again mostly sends the same bytes.
/// They are known by their ``KeyedTag`` under a secret of this process, so nobody can make other bytes that are taken for them, and only
/// among what the same tenant has sent.
///
/// It holds a bounded number of keys. A part that is full forgets all of its own, which costs each question its digest once more.
final class QuestionMemo: Sendable {
    /// What a key follows from beside the bytes and the tenant.
    struct Terms: Sendable {
        let surface: Surface
        let model: String
        let version: String
        let sameness: CachePolicy.Sameness
        let stickyField: String?

        func isSame(as other: Terms) -> Bool {
            surface.rawValue == other.surface.rawValue && model == other.model && version == other.version
                && isOfTensors == other.isOfTensors && stickyField == other.stickyField
        }

        /// Compared in the place of the case, because `==` of an enumeration with texts compares the texts.
        private var isOfTensors: Bool {
            switch sameness {
            case .tensors: true
            case .canonicalJSON: false
            }
        }
    }

    private struct Question: Hashable {
        let bytes: KeyedTag
        let tenantID: TenantID

        /// The tag is as good as random already.
        func hash(into hasher: inout Hasher) { hasher.combine(bytes.low) }
    }

    private struct Answer {
        let terms: Terms
        let key: CacheKey
    }

    private final class Part: Sendable {
        let answers = Mutex<[Question: Answer]>([:])
    }

    private static let partCount = 16
    /// Some 2 MB in all parts together.
    static let partLimit = 1_024

    private let secret: TagSecret
    private let parts = (0..<partCount).map { _ in Part() }

    init() {
        var random = SystemRandomNumberGenerator()
        secret = TagSecret(using: &random)
    }

    /// - Parameter make: makes the key where it is not known.
    func key(_ bytes: ByteBuffer, of tenantID: TenantID, _ terms: Terms, make: () -> CacheKey) -> CacheKey {
        let question = Question(bytes: bytes.withUnsafeReadableBytes { secret.tag(of: $0) }, tenantID: tenantID)
        let part = parts[Int(truncatingIfNeeded: question.bytes.low) & (Self.partCount - 1)]
        if let known = part.answers.withLock({ $0[question] }), known.terms.isSame(as: terms) { return known.key }
        let key = make()
        part.answers.withLock { answers in
            if answers.count >= Self.partLimit { answers.removeAll(keepingCapacity: true) }
            answers[question] = Answer(terms: terms, key: key)
        }
        return key
    }

    var count: Int { parts.reduce(0) { $0 + $1.answers.withLock { $0.count } } }
}
