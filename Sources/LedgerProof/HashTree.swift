internal import Crypto
internal import Domain

/// The tree of hashes over the receipts of one batch, as in RFC 6962, section 2.1: leaves behind the byte 0, nodes behind the byte 1, and a
/// left subtree of the largest power of two that is smaller than the whole.
struct HashTree {
    /// Level by level from the leaves on. An odd node goes up as it is, which gives the same tree as the definition.
    private let levels: [[ProofHash]]

    /// - Parameter leaves: at least one.
    init(_ leaves: [ProofHash]) {
        var levels = [leaves]
        while let last = levels.last, last.count > 1 {
            var next: [ProofHash] = []
            next.reserveCapacity((last.count + 1) / 2)
            for index in stride(from: 0, to: last.count, by: 2) {
                next.append(index + 1 < last.count ? Self.node(last[index], last[index + 1]) : last[index])
            }
            levels.append(next)
        }
        self.levels = levels
    }

    var root: ProofHash { levels[levels.count - 1][0] }

    /// The hashes beside the way from a leaf to the root, from below.
    func path(of index: Int) -> [ProofHash] {
        var path: [ProofHash] = []
        var position = index
        for level in levels.dropLast() {
            let sibling = position ^ 1
            if sibling < level.count { path.append(level[sibling]) }
            position /= 2
        }
        return path
    }

    static func leaf(_ form: [UInt8]) -> ProofHash { ProofHash(sha256: form) }

    static func node(_ left: ProofHash, _ right: ProofHash) -> ProofHash {
        var bytes: [UInt8] = [1]
        bytes.reserveCapacity(65)
        bytes.append(contentsOf: left.bytes)
        bytes.append(contentsOf: right.bytes)
        return ProofHash(sha256: bytes)
    }

    /// The root to which a path leads (RFC 9162, section 2.1.3.2); `nil` for a path of another length than the place wants.
    static func root(from leaf: ProofHash, index: Int, count: Int, path: [ProofHash]) -> ProofHash? {
        guard index >= 0, index < count else { return nil }
        var (position, last) = (index, count - 1)
        var hash = leaf
        for sibling in path {
            guard last > 0 else { return nil }
            if position & 1 == 1 || position == last {
                hash = node(sibling, hash)
                while position & 1 == 0, position != 0 {
                    position >>= 1
                    last >>= 1
                }
            } else {
                hash = node(hash, sibling)
            }
            position >>= 1
            last >>= 1
        }
        return last == 0 ? hash : nil
    }
}
