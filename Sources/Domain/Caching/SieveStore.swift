/// Values by key within a bound of bytes, each with an end of its own. When room is needed, SIEVE says what goes.
///
/// SIEVE (Zhang et al., "SIEVE is Simpler than LRU", NSDI 2024) keeps values in the order in which they came and moves none of them when it is
/// read: a read sets a mark and nothing else. A hand goes from the oldest to the newest, takes marks away and removes the first value
/// without one. What was read once since the hand passed stays; what nobody asks for again goes early. A value; its owner locks it.
public struct SieveStore<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    /// What made room, for whoever counts.
    public struct Removal: Sendable {
        public let value: Value
        public let bytes: Int
    }

    public enum Insertion: Sendable {
        case stored(removed: [Removal])
        /// Larger than a value may be.
        case tooLarge
    }

    // Inlinable with what it touches, so that its user's module makes it for its own types: each hit looks here.
    @usableFromInline struct Node: Sendable {
        @usableFromInline var key: Key
        @usableFromInline var value: Value
        @usableFromInline var bytes: Int
        @usableFromInline var endNanoseconds: UInt64
        @usableFromInline var isMarked = false
        @usableFromInline var newer = -1
        @usableFromInline var older = -1
    }

    @usableFromInline var nodes: [Node?] = []
    private var unused: [Int] = []
    @usableFromInline var places: [Key: Int] = [:]
    private var newest = -1
    private var oldest = -1
    private var hand = -1
    private let capacityBytes: Int
    public private(set) var bytes = 0

    /// - Parameter capacityBytes: what all values together may have; one alone may have an eighth of it.
    public init(capacityBytes: Int) { self.capacityBytes = max(0, capacityBytes) }

    public var count: Int { places.count }

    /// The value under the key, unless its end has come; then it is removed.
    @inlinable
    public mutating func value(of key: Key, atNanoseconds now: UInt64) -> Value? {
        guard let place = places[key], let node = nodes[place] else { return nil }
        guard now < node.endNanoseconds else {
            _ = remove(at: place)
            return nil
        }
        // What is asked for often has its mark: nothing is written then.
        if !node.isMarked { nodes[place]?.isMarked = true }
        return node.value
    }

    /// Keeps a value under a key, in place of what was there.
    public mutating func insert(
        _ value: Value, of key: Key, bytes valueBytes: Int, endNanoseconds: UInt64
    ) -> Insertion {
        var removed: [Removal] = []
        if let place = places[key], let old = remove(at: place) { removed.append(old) }
        guard valueBytes >= 0, valueBytes <= capacityBytes / 8 else { return .tooLarge }
        while bytes + valueBytes > capacityBytes, let old = evict() { removed.append(old) }
        var node = Node(key: key, value: value, bytes: valueBytes, endNanoseconds: endNanoseconds)
        node.older = newest
        let place: Int
        if let free = unused.popLast() {
            place = free
            nodes[place] = node
        } else {
            place = nodes.count
            nodes.append(node)
        }
        if newest >= 0 { nodes[newest]?.newer = place }
        newest = place
        if oldest < 0 { oldest = place }
        places[key] = place
        bytes += valueBytes
        return .stored(removed: removed)
    }

    public mutating func remove(_ key: Key) -> Removal? {
        places[key].flatMap { remove(at: $0) }
    }

    private mutating func evict() -> Removal? {
        var place = hand >= 0 ? hand : oldest
        // Each step takes a mark away, so the second round ends it at the latest.
        while place >= 0, nodes[place]?.isMarked == true {
            nodes[place]?.isMarked = false
            let next = nodes[place]?.newer ?? -1
            place = next >= 0 ? next : oldest
        }
        guard place >= 0 else { return nil }
        hand = nodes[place]?.newer ?? -1
        return remove(at: place)
    }

    @usableFromInline
    mutating func remove(at place: Int) -> Removal? {
        guard let node = nodes[place] else { return nil }
        if node.newer >= 0 { nodes[node.newer]?.older = node.older } else { newest = node.older }
        if node.older >= 0 { nodes[node.older]?.newer = node.newer } else { oldest = node.newer }
        if hand == place { hand = node.newer }
        nodes[place] = nil
        unused.append(place)
        places[node.key] = nil
        bytes -= node.bytes
        return Removal(value: node.value, bytes: node.bytes)
    }
}
