public import Domain
internal import Synchronization

/// The keys of the installation as this process knows them. Replaced whole when the control plane changes.
public final class SigningKeyRing: ReceiptIssuer {
    private struct State: Sendable {
        var keys: [PublicSigningKey] = []
        var signer: HeadSigner?
        var generation: Int64?
        /// Readings, counted as they begin, and the last whose answer was taken.
        var begun = 0
        var taken = 0
    }

    private let directory: any SigningKeyDirectory
    private let time: any TimeSource
    private let state = Mutex(State())

    /// - Parameter time: receipts say when they were signed.
    public init(directory: any SigningKeyDirectory, time: any TimeSource) {
        self.directory = directory
        self.time = time
    }

    /// Newest first.
    public var publicKeys: [PublicSigningKey] { state.withLock { $0.keys } }

    /// What signs now; `nil` until the keys were read, and where the active one cannot be opened.
    public var signer: HeadSigner? { state.withLock { $0.signer } }

    /// Reads the keys anew if the control plane has changed since.
    public func refresh() async throws(StoreUnavailable) {
        let generation = try await directory.generation()
        guard state.withLock({ $0.generation != generation || $0.keys.isEmpty }) else { return }
        try await reload(generation)
    }

    /// Reads the keys anew.
    public func reload() async throws(StoreUnavailable) { try await reload(try await directory.generation()) }

    private func reload(_ generation: Int64) async throws(StoreUnavailable) {
        let number = state.withLock { state in
            state.begun += 1
            return state.begun
        }
        let read = try await directory.signingKeys()
        let signer = read.activeSeed.flatMap { HeadSigner(seed: $0) }
        state.withLock { state in
            // A reading that began earlier and ended later must not bring back a key that was retired since.
            guard number > state.taken else { return }
            (state.keys, state.signer, state.generation, state.taken) = (read.keys, signer, generation, number)
        }
    }

    public func issue(_ settlements: [Settlement]) {
        guard settlements.contains(where: { $0.receipt != nil }) else { return }
        let (signer, keys) = state.withLock { ($0.signer, $0.keys) }
        guard let signer else { return }
        // A clock that is behind would make receipts from before their key: the key's beginning is in the database's time, and not later than now.
        let beginning = keys.first { $0.id == signer.id }?.createdAt ?? time.now
        ReceiptBatch.issue(settlements, signer: signer, at: max(time.now, beginning))
    }
}

/// Makes the receipts of one batch: one tree, one signature.
enum ReceiptBatch {
    static func issue(_ settlements: [Settlement], signer: HeadSigner, at instant: Timestamp) {
        var orders: [any ReceiptOrder] = []
        var forms: [[UInt8]] = []
        for settlement in settlements {
            guard settlement.isBilled, let order = settlement.receipt else { continue }
            orders.append(order)
            forms.append(ReceiptFields(settlement).leafForm)
        }
        guard !orders.isEmpty else { return }
        let tree = HashTree(forms.map { HashTree.leaf($0) })
        let count = orders.count
        let form = Receipt.rootForm(tree.root, count: count, signedAt: instant, keyID: signer.id)
        guard let signature = signer.sign(form) else { return }
        for (index, order) in orders.enumerated() {
            let path = tree.path(of: index)
            func receipt(_ form: [UInt8]?) -> [UInt8] {
                Receipt.text(
                    keyID: signer.id, index: index, count: count, signedAt: instant, path: path, signature: signature,
                    leafForm: form)
            }
            let text = receipt(order.form == .full ? forms[index] : nil)
            // A model with an uncommonly long name of its version: the ledger has the fields.
            order.fill(text.count <= Receipt.textLimit ? text : receipt(nil))
        }
    }
}

/// Where a request finds its receipt.
public final class ReceiptBox: ReceiptOrder {
    public let form: ReceiptForm
    private let filled = Mutex<[UInt8]?>(nil)

    public init(_ form: ReceiptForm) { self.form = form }

    /// ASCII of the receipt; `nil` until the commit is known, and where none could be made.
    public var text: [UInt8]? { filled.withLock { $0 } }

    public func fill(_ text: [UInt8]) { filled.withLock { $0 = text } }
}
