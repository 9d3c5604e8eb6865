import Domain
import Testing

@testable import LedgerProof

@Suite("receipts")
struct ReceiptTests {
    private static func settlement(_ entry: LedgerEntry, _ order: ReceiptBox?, billed: Bool = true) -> Settlement {
        Settlement(
            requestID: entry.entryID, tenantID: entry.tenantID, userID: nil, keyID: entry.keyID, model: entry.model,
            modelVersion: entry.modelVersion, outcome: billed ? .completed : .failed, httpStatus: 200, errorCode: nil,
            createdAt: Sample.now, completedAt: Sample.now, processingMicroseconds: 1, estimatedTokens: 1,
            usage: Usage(
                inputTokens: entry.inputTokens, cachedInputTokens: entry.cachedInputTokens,
                outputTokens: entry.outputTokens, source: .worker),
            tierVersionID: entry.tierVersionID, leaseID: nil, prompt: nil, promptDigest: nil, result: nil,
            receipt: order)
    }

    private struct Batch {
        let keys: KeySet
        let entries: [LedgerEntry]
        let texts: [String]

        init(_ count: Int, form: ReceiptForm) throws {
            let signer = try Sample.signer()
            keys = KeySet([Sample.key(signer)])
            entries = (1...count).map { Sample.entry($0, tenant: 1) }
            let boxes = entries.map { _ in ReceiptBox(form) }
            ReceiptBatch.issue(
                zip(entries, boxes).map { ReceiptTests.settlement($0, $1) }, signer: signer, at: Sample.now)
            texts = try boxes.map { String(decoding: try #require($0.text), as: UTF8.self) }
        }
    }

    @Test(
        "every receipt of a batch holds, alone and with its entry, and with no other",
        arguments: [1, 2, 3, 4, 5, 7, 8, 9, 31, 64, 65, 1_000])
    func batches(count: Int) throws {
        let batch = try Batch(count, form: .full)
        let short = try Batch(count, form: .short)
        for index in stride(from: 0, to: count, by: max(1, count / 40)) {
            let receipt = try Receipt(text: batch.texts[index])
            #expect(throws: Never.self) { try receipt.verify(keys: batch.keys) }
            #expect(throws: Never.self) { try receipt.verify(keys: batch.keys, entry: batch.entries[index]) }
            #expect(receipt.fields == ReceiptFields(batch.entries[index]))
            let brief = try Receipt(text: short.texts[index])
            #expect(throws: Never.self) { try brief.verify(keys: batch.keys, entry: batch.entries[index]) }
            #expect(throws: ProofFailure.self) { try brief.verify(keys: batch.keys) }
            let other = Sample.entry(count + 1 + index, tenant: 1)
            #expect(throws: ProofFailure.self) { try receipt.verify(keys: batch.keys, entry: other) }
            #expect(throws: ProofFailure.self) { try brief.verify(keys: batch.keys, entry: other) }
            #expect(batch.texts[index].utf8.count <= Receipt.textLimit)
        }
    }

    @Test("a receipt with any bit changed fails", arguments: [ReceiptForm.full, .short])
    func bits(form: ReceiptForm) throws {
        let batch = try Batch(6, form: form)
        let bytes = try #require(Base64URL.decode(Array(batch.texts[4].utf8)))
        for bit in 0..<bytes.count * 8 {
            var changed = bytes
            changed[bit / 8] ^= 1 << UInt8(bit % 8)
            let text = String(decoding: Base64URL.encode(changed), as: UTF8.self)
            #expect(throws: ProofFailure.self, "bit \(bit)") {
                try Receipt(text: text).verify(keys: batch.keys, entry: batch.entries[4])
            }
        }
        // And of the text: no second form of the same bytes is taken.
        let text = Array(batch.texts[4].utf8)
        for place in text.indices {
            for flip in [UInt8(1), 2, 4, 8, 16, 32] {
                var changed = text
                changed[place] ^= flip
                #expect(throws: ProofFailure.self, "character \(place)") {
                    try Receipt(text: String(decoding: changed, as: UTF8.self)).verify(
                        keys: batch.keys, entry: batch.entries[4])
                }
            }
        }
    }

    @Test("a receipt that is cut off or lengthened fails")
    func lengths() throws {
        let batch = try Batch(3, form: .full)
        for count in 0..<batch.texts[0].utf8.count {
            let cut = String(batch.texts[0].prefix(count))
            #expect(throws: ProofFailure.self) { try Receipt(text: cut).verify(keys: batch.keys) }
        }
        #expect(throws: ProofFailure.self) { try Receipt(text: batch.texts[0] + "AAAA").verify(keys: batch.keys) }
        #expect(throws: ProofFailure.self) { try Receipt(text: String(repeating: "A", count: 5_000)) }
    }

    @Test("who wants none and who was not charged gets none, and takes no place in the tree")
    func unwanted() throws {
        let signer = try Sample.signer()
        let (wanted, failed) = (ReceiptBox(.full), ReceiptBox(.full))
        ReceiptBatch.issue(
            [
                Self.settlement(Sample.entry(1, tenant: 1), nil), Self.settlement(Sample.entry(2, tenant: 1), wanted),
                Self.settlement(Sample.entry(3, tenant: 1), failed, billed: false),
            ], signer: signer, at: Sample.now)
        #expect(failed.text == nil)
        let receipt = try Receipt(text: String(decoding: try #require(wanted.text), as: UTF8.self))
        #expect(receipt.count == 1)
        #expect(throws: Never.self) { try receipt.verify(keys: KeySet([Sample.key(signer)])) }
    }

    @Test("a name of a version that is too long leaves the fields to the ledger")
    func longFields() throws {
        let signer = try Sample.signer()
        var entry = Sample.entry(1, tenant: 1)
        entry.modelVersion = String(repeating: "v", count: 3_000)
        let box = ReceiptBox(.full)
        ReceiptBatch.issue([Self.settlement(entry, box)], signer: signer, at: Sample.now)
        let text = String(decoding: try #require(box.text), as: UTF8.self)
        #expect(text.utf8.count <= Receipt.textLimit)
        let receipt = try Receipt(text: text)
        #expect(receipt.fields == nil)
        #expect(throws: Never.self) { try receipt.verify(keys: KeySet([Sample.key(signer)]), entry: entry) }
    }

    @Test("a receipt that was signed outside of its key's life proves nothing")
    func life() throws {
        let signer = try Sample.signer()
        func verify(_ instant: Timestamp, retired: Timestamp?) throws {
            let entry = Sample.entry(1, tenant: 1)
            let box = ReceiptBox(.full)
            ReceiptBatch.issue([Self.settlement(entry, box)], signer: signer, at: instant)
            let key = PublicSigningKey(
                id: signer.id, publicKey: signer.publicKey, state: retired == nil ? .active : .retired,
                createdAt: Sample.now, retiredAt: retired)
            try Receipt(text: String(decoding: try #require(box.text), as: UTF8.self)).verify(keys: KeySet([key]))
        }
        let end = Sample.now.advanced(byMilliseconds: 1_000_000)
        #expect(throws: Never.self) { try verify(Sample.now, retired: nil) }
        #expect(throws: Never.self) { try verify(end.advanced(byMilliseconds: 59_000), retired: end) }
        #expect(throws: ProofFailure.self) { try verify(end.advanced(byMilliseconds: 61_000), retired: end) }
        #expect(throws: ProofFailure.self) { try verify(Sample.now.advanced(byMilliseconds: -61_000), retired: nil) }
    }

    @Test("an entry whose texts look the same and have other bytes is another entry")
    func sameLook() throws {
        let signer = try Sample.signer()
        var entry = Sample.entry(1, tenant: 1)
        entry.model = "gr\u{F6}\u{DF}e"
        let box = ReceiptBox(.full)
        ReceiptBatch.issue([Self.settlement(entry, box)], signer: signer, at: Sample.now)
        let receipt = try Receipt(text: String(decoding: try #require(box.text), as: UTF8.self))
        let keys = KeySet([Sample.key(signer)])
        #expect(throws: Never.self) { try receipt.verify(keys: keys, entry: entry) }
        let model = entry.model
        entry.model = "gro\u{308}\u{DF}e"
        #expect(entry.model == model)
        #expect(throws: ProofFailure.self) { try receipt.verify(keys: keys, entry: entry) }
    }
}
