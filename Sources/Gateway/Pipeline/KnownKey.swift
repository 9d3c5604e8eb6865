internal import Domain
internal import Synchronization

/// A key as it was read, and what spares its digest the next time that the same bytes are presented.
///
/// Its digest takes longer than the rest of admission. So what is remembered of bytes that were found to have it is their ``KeyedTag`` under a
/// secret of this process: whoever presents bytes with that tag presents the key. The key itself is kept nowhere, and the tag leads nobody
/// to it: 128 bits cannot tell which of 2¹⁹⁰ secrets made them, even if the process's memory were read.
///
/// A tag says whose bytes they are and nothing else. Expiry and revocation are read from the record at each request, as ever, and a refresh
/// that reads the record anew makes a new object without a tag. How long an answer takes tells whether the bytes are the key's, which
/// the answer says itself; it tells nothing of which part of them is wrong, because one wrong bit changes the whole tag.
final class KnownKey: Sendable {
    let record: KeyRecord
    /// Zero until the key was verified. A tag whose first half is zero is not remembered, which costs such a key its digest each time.
    private let tagHigh = Atomic<UInt64>(0)
    private let tagLow = Atomic<UInt64>(0)

    init(_ record: KeyRecord) { self.record = record }

    /// - Parameter tag: of bytes whose digest is the record's.
    func remember(_ tag: KeyedTag) {
        // Only one byte string has the digest, so two who remember at once write the same. Who sees the first half sees the second.
        tagLow.store(tag.low, ordering: .relaxed)
        tagHigh.store(tag.high, ordering: .releasing)
    }

    /// Takes the same time wherever the tags differ.
    func isVerified(_ tag: KeyedTag) -> Bool {
        let high = tagHigh.load(ordering: .acquiring)
        let difference = (high ^ tag.high) | (tagLow.load(ordering: .relaxed) ^ tag.low)
        return difference == 0 && high != 0
    }

    /// - Throws: `invalid_api_key` for a key that is revoked or has expired.
    func holder(at time: any TimeSource) throws(Refusal) -> KeyRecord.Holder {
        if record.revokedAt != nil { throw .invalidKey }
        if let end = record.expiresAt, end <= time.now { throw .invalidKey }
        return record.holder
    }
}
