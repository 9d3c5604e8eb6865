public import Domain

/// What a receipt says was charged: the part of a ledger entry that the gateway knows when it commits it.
public struct ReceiptFields: Hashable, Sendable {
    public var entryID: RequestID
    public var tenantID: TenantID
    public var keyID: KeyID
    public var model: String
    public var modelVersion: String
    public var tierVersionID: TierVersionID
    public var requests: Int64
    public var inputTokens: Int64
    public var cachedInputTokens: Int64
    public var outputTokens: Int64
    public var tokenSource: String

    public init(_ entry: LedgerEntry) {
        entryID = entry.entryID
        tenantID = entry.tenantID
        keyID = entry.keyID
        model = entry.model
        modelVersion = entry.modelVersion
        tierVersionID = entry.tierVersionID
        requests = entry.requests
        inputTokens = entry.inputTokens
        cachedInputTokens = entry.cachedInputTokens
        outputTokens = entry.outputTokens
        tokenSource = entry.tokenSource
    }

    public init(_ settlement: Settlement) {
        entryID = settlement.requestID
        tenantID = settlement.tenantID
        keyID = settlement.keyID
        model = settlement.model
        modelVersion = settlement.modelVersion
        tierVersionID = settlement.tierVersionID
        requests = settlement.chargedRequests
        inputTokens = settlement.usage.inputTokens
        cachedInputTokens = settlement.usage.cachedInputTokens
        outputTokens = settlement.usage.outputTokens
        tokenSource = settlement.usage.source.rawValue
    }

    init?(_ reader: inout ReceiptReader) {
        guard let entryID: RequestID = reader.identifier(), let tenantID: TenantID = reader.identifier(),
            let keyID: KeyID = reader.identifier(), let model = reader.text(), let modelVersion = reader.text(),
            let tierVersionID: TierVersionID = reader.identifier(), let requests = reader.number(),
            let inputTokens = reader.number(), let cachedInputTokens = reader.number(),
            let outputTokens = reader.number(), let tokenSource = reader.text()
        else { return nil }
        self.entryID = entryID
        self.tenantID = tenantID
        self.keyID = keyID
        self.model = model
        self.modelVersion = modelVersion
        self.tierVersionID = tierVersionID
        self.requests = requests
        self.inputTokens = inputTokens
        self.cachedInputTokens = cachedInputTokens
        self.outputTokens = outputTokens
        self.tokenSource = tokenSource
    }

    static let tag: StaticString = "weir.receipt.v1"

    /// What is hashed: the byte 0, the tag and the fields.
    var leafForm: [UInt8] {
        var form = CanonicalForm(behind: [0], expecting: 320)
        form.field(Self.tag)
        write(to: &form)
        return form.bytes
    }

    var leaf: ProofHash { HashTree.leaf(leafForm) }

    private func write(to form: inout CanonicalForm) {
        form.field(entryID)
        form.field(tenantID)
        form.field(keyID)
        form.field(model)
        form.field(modelVersion)
        form.field(tierVersionID)
        form.field(requests)
        form.field(inputTokens)
        form.field(cachedInputTokens)
        form.field(outputTokens)
        form.field(tokenSource)
    }
}

/// A charge, signed: where it stands in the tree of its batch, and the signature of that tree's root.
public struct Receipt: Hashable, Sendable {
    public let keyID: SigningKeyID
    public let index: Int
    public let count: Int
    /// When it was signed, by the clock of who signed it.
    public let signedAt: Timestamp
    let path: [ProofHash]
    let signature: [UInt8]
    /// `nil` in the short form.
    public let fields: ReceiptFields?

    /// Bytes of the text, at most.
    public static let textLimit = 2_048
    private static let version: UInt8 = 2
    private static let pathLimit = 32

    init(
        keyID: SigningKeyID, index: Int, count: Int, signedAt: Timestamp, path: [ProofHash], signature: [UInt8],
        fields: ReceiptFields?
    ) {
        self.keyID = keyID
        self.index = index
        self.count = count
        self.signedAt = signedAt
        self.path = path
        self.signature = signature
        self.fields = fields
    }

    /// What a root's signature is over.
    static func rootForm(_ root: ProofHash, count: Int, signedAt: Timestamp, keyID: SigningKeyID) -> [UInt8] {
        var form = CanonicalForm("weir.receipt.root.v2", expecting: 128)
        form.field(keyID.bytes)
        form.field(Int64(count))
        form.field(root)
        form.field(signedAt)
        return form.bytes
    }

    // MARK: the text

    /// - Parameter leafForm: of the fields, for the full form.
    static func text(
        keyID: SigningKeyID, index: Int, count: Int, signedAt: Timestamp, path: [ProofHash], signature: [UInt8],
        leafForm: [UInt8]?
    ) -> [UInt8] {
        var bytes: [UInt8] = [version, leafForm == nil ? 0 : 1]
        bytes.reserveCapacity(96 + path.count * 32 + (leafForm?.count ?? 0))
        bytes.append(contentsOf: keyID.bytes)
        for number in [index, count] {
            withUnsafeBytes(of: UInt32(clamping: number).bigEndian) { bytes.append(contentsOf: $0) }
        }
        withUnsafeBytes(of: signedAt.microsecondsSince1970.bigEndian) { bytes.append(contentsOf: $0) }
        bytes.append(UInt8(clamping: path.count))
        for hash in path { bytes.append(contentsOf: hash.bytes) }
        bytes.append(contentsOf: signature)
        // Without the byte 0 and the tag, which are always the same.
        if let leafForm { bytes.append(contentsOf: leafForm.dropFirst(1 + 4 + ReceiptFields.tag.utf8CodeUnitCount)) }
        return Base64URL.encode(bytes)
    }

    /// Reads a receipt as it stands in an answer.
    public init(text: some StringProtocol) throws(ProofFailure) {
        guard text.utf8.count <= Self.textLimit, let bytes = Base64URL.decode(Array(text.utf8)) else {
            throw ProofFailure("a receipt is at most \(Self.textLimit) characters of base64url")
        }
        var reader = ReceiptReader(bytes)
        guard let version = reader.byte(), let form = reader.byte(), let key = reader.bytes(8),
            let index = reader.short(), let count = reader.short(), let instant = reader.long(),
            let pathCount = reader.byte(), Int(pathCount) <= Self.pathLimit
        else { throw ProofFailure("the receipt is cut off") }
        guard version == Self.version, form <= 1 else {
            throw ProofFailure("the receipt has a form that this program does not know")
        }
        var path: [ProofHash] = []
        for _ in 0..<pathCount {
            guard let hash = reader.bytes(32).flatMap({ ProofHash(bytes: $0) }) else {
                throw ProofFailure("the receipt is cut off")
            }
            path.append(hash)
        }
        guard let signature = reader.bytes(64) else { throw ProofFailure("the receipt is cut off") }
        var fields: ReceiptFields?
        if form == 1 {
            guard let read = ReceiptFields(&reader) else { throw ProofFailure("the receipt's fields cannot be read") }
            fields = read
        }
        guard reader.isAtEnd else { throw ProofFailure("there is something behind the receipt") }
        self.init(
            keyID: SigningKeyID(word: key.reduce(0) { $0 << 8 | UInt64($1) }), index: Int(index), count: Int(count),
            signedAt: Timestamp(microsecondsSince1970: instant), path: path, signature: Array(signature), fields: fields
        )
    }

    // MARK: verification

    /// - Parameter entry: the ledger's; needed for the short form, and compared with the fields of the full one.
    /// - Throws: why the receipt proves nothing.
    public func verify(keys: KeySet, entry: LedgerEntry? = nil) throws(ProofFailure) {
        let entryFields = entry.map { ReceiptFields($0) }
        guard let proved = fields ?? entryFields else {
            throw ProofFailure("the receipt is short: the ledger's entry is needed to verify it")
        }
        let key = try keys.key(keyID)
        try KeySet.check("receipt", signedAt: signedAt, within: key)
        guard let root = HashTree.root(from: proved.leaf, index: index, count: count, path: path) else {
            throw ProofFailure("the receipt's path does not fit its place")
        }
        try keys.check(
            signature, over: Self.rootForm(root, count: count, signedAt: signedAt, keyID: keyID), by: key)
        // By what is hashed: two texts of other bytes can be equal to Swift.
        if let entryFields, entryFields.leaf != proved.leaf {
            throw ProofFailure("the receipt is for another entry, or the entry has been changed")
        }
    }
}

/// Reads a receipt's bytes from the front; never beyond their end.
struct ReceiptReader {
    private let all: [UInt8]
    private var position = 0

    init(_ bytes: [UInt8]) { all = bytes }

    var isAtEnd: Bool { position == all.count }

    mutating func bytes(_ count: Int) -> ArraySlice<UInt8>? {
        guard count >= 0, all.count - position >= count else { return nil }
        defer { position += count }
        return all[position..<position + count]
    }

    mutating func byte() -> UInt8? { bytes(1)?.first }

    /// Four bytes.
    mutating func short() -> UInt32? { bytes(4).map { $0.reduce(0) { $0 << 8 | UInt32($1) } } }

    /// Eight bytes, two's complement.
    mutating func long() -> Int64? {
        bytes(8).map { Int64(bitPattern: $0.reduce(0) { $0 << 8 | UInt64($1) }) }
    }

    private mutating func field() -> ArraySlice<UInt8>? { short().flatMap { bytes(Int($0)) } }

    private mutating func field(of count: Int) -> ArraySlice<UInt8>? {
        guard let field = field(), field.count == count else { return nil }
        return field
    }

    mutating func text() -> String? { field().flatMap { String(validating: $0, as: UTF8.self) } }

    mutating func number() -> Int64? {
        field(of: 8).map { Int64(bitPattern: $0.reduce(0) { $0 << 8 | UInt64($1) }) }
    }

    mutating func identifier<Kind>() -> Identifier<Kind>? {
        guard let bytes = field(of: 16) else { return nil }
        let words = bytes.enumerated().reduce(into: [UInt64(0), 0]) {
            $0[$1.offset / 8] = $0[$1.offset / 8] << 8 | UInt64($1.element)
        }
        return Identifier(high: words[0], low: words[1])
    }
}
