import Domain
import Testing

@testable import LedgerProof

/// What somebody could do to an exported ledger who does not have the key. Every one of these has to be noticed, and the first bad entry
/// named; a ledger that nobody touched has to hold.
@Suite("mutations of an exported ledger")
struct MutationTests {
    private static let rounds = [5, 40, 1, 300, 17]

    private struct Fixture: Sendable {
        let book: Sample.Book
        let foreign: Sample.Book
        let keys: KeySet
        let lines: [String]
        /// Indexes of the lines that are entries.
        let entryLines: [Int]

        init() throws {
            let signer = try Sample.signer()
            book = try Sample.Book(rounds: MutationTests.rounds, signer: signer)
            foreign = try Sample.Book(rounds: [400], tenant: 2, signer: signer)
            keys = KeySet([Sample.key(signer)])
            let lines = book.lines
            self.lines = lines
            entryLines = lines.indices.filter { lines[$0].contains("\"object\":\"ledger_entry\"") }
        }

        /// The sequence number of the fault, or `nil` where the lines are taken for good.
        func fault(_ lines: [String], head: SignedHead? = nil) -> ChainFault? {
            do throws(ExportFault) {
                _ = try Sample.verify(lines, keys: keys, head: head)
                return nil
            } catch {
                return error.fault
            }
        }

        /// Hashes anew what was changed, as anybody can.
        func rehashed(_ entries: [LedgerEntry], heads: [SignedHead]) -> [String] {
            var sealed: [Sealed<LedgerEntry>] = []
            var hash = book.chain.origin
            for (index, entry) in entries.enumerated() {
                hash = book.chain.link(hash, sequence: Int64(index + 1), leaf: entry.leaf)
                sealed.append(Sealed(sequence: Int64(index + 1), entry: entry, hash: hash))
            }
            var forged = book
            forged.entries = sealed
            forged.heads = heads
            return forged.lines
        }
    }

    private static let fixture = Result { try Fixture() }

    @Test("a ledger that nobody touched holds, with every one of its heads known, whatever its length")
    func clean() throws {
        let fixture = try Self.fixture.get()
        let report = try Sample.verify(fixture.lines, keys: fixture.keys)
        #expect(report.entries == 363)
        #expect(report.heads == Int64(fixture.book.heads.count) + 1)
        for head in fixture.book.heads { #expect(fixture.fault(fixture.lines, head: head) == nil) }
        let signer = try Sample.signer()
        for length in [1, 2, 255, 256, 257, 512] {
            let book = try Sample.Book(rounds: [length], signer: signer)
            #expect(fixture.fault(book.lines) == nil, "\(length) entries")
        }
    }

    @Test("any field of any entry that is changed is noticed at that entry", arguments: 0..<200)
    func edits(seed: Int) throws {
        let fixture = try Self.fixture.get()
        var random = SplitMix(seed: UInt64(seed))
        let line = try #require(fixture.entryLines.randomElement(using: &random))
        let sequence = Int64(try #require(fixture.entryLines.firstIndex(of: line)) + 1)
        var lines = fixture.lines
        // One character of a value: a digit becomes another one, a letter another letter, of a text or a number.
        var characters = Array(lines[line].utf8)
        let values = Self.placesOfValues(characters)
        let place = try #require(values.randomElement(using: &random))
        let old = characters[place]
        repeat { characters[place] = Self.other(than: old, using: &random) } while characters[place] == old
        lines[line] = String(decoding: characters, as: UTF8.self)
        let fault = try #require(fixture.fault(lines), "changed \(lines[line])")
        #expect(fault.sequence == sequence, "\(fault)")
    }

    @Test("entries that are deleted, doubled, exchanged or put in are noticed at the first of them", arguments: 0..<150)
    func structure(seed: Int) throws {
        let fixture = try Self.fixture.get()
        var random = SplitMix(seed: UInt64(seed) &+ 1_000)
        var lines = fixture.lines
        let index = Int.random(in: 0..<fixture.entryLines.count - 2, using: &random)
        let line = fixture.entryLines[index]
        var sequence = Int64(index + 1)
        switch seed % 5 {
        case 0:
            lines.remove(at: line)
            // Where a head stands behind it, it could be any of those since the head before.
            if !lines[line].contains("ledger_entry") {
                sequence = (fixture.book.heads.last { $0.sequence < sequence }?.sequence ?? 0) + 1
            }
        case 1:
            lines.insert(lines[line], at: line + 1)
            sequence += 1
        case 2:
            let other = fixture.entryLines[Int.random(in: index + 1..<fixture.entryLines.count, using: &random)]
            lines.swapAt(line, other)
        case 3: lines[line] = try #require(fixture.foreign.lines.first { $0.contains("\"seq\":\(sequence),") })
        default:
            let alien = fixture.foreign.lines.first { $0.contains("\"seq\":\(sequence),") }
            lines.insert(try #require(alien), at: line)
        }
        let fault = try #require(fixture.fault(lines))
        #expect(fault.sequence == sequence, "\(fault)")
    }

    @Test("a cut at any line is noticed, with and without an old head in the last line", arguments: 0..<60)
    func truncation(seed: Int) throws {
        let fixture = try Self.fixture.get()
        var random = SplitMix(seed: UInt64(seed) &+ 2_000)
        let count = Int.random(in: 1..<fixture.lines.count - 1, using: &random)
        let cut = Array(fixture.lines.prefix(count))
        let left = cut.filter { $0.contains("\"object\":\"ledger_entry\"") }.count
        #expect(fixture.fault(cut) != nil)
        let last = try #require(fixture.lines.last)
        #expect(fixture.fault(cut + [last]) != nil)
        // With an older head in the last line it is an older export, which only a head tells that is known from elsewhere.
        let older = fixture.book.heads.last { $0.sequence <= Int64(left) }
        guard let older else { return }
        var book = fixture.book
        book.entries = Array(book.entries.prefix(Int(older.sequence)))
        book.heads = book.heads.filter { $0.sequence <= older.sequence }
        #expect(fixture.fault(book.lines) == nil)
        let known = try #require(fixture.book.heads.last)
        let fault = try #require(fixture.fault(book.lines, head: known))
        #expect(fault.sequence == older.sequence + 1)
    }

    @Test(
        "an export whose beginning was cut off is noticed, unless somebody says where it begins",
        arguments: [1, 5, 46, 300])
    func beginning(after: Int) throws {
        let fixture = try Self.fixture.get()
        var book = fixture.book
        let previous = book.entries[after - 1].hash
        book.entries = Array(book.entries.dropFirst(after))
        book.heads = book.heads.filter { $0.sequence > Int64(after) }
        let first = ChainExport.first(LedgerEntry.self, book.chain, after: Int64(after), hash: previous)
        let lines = [String(decoding: first, as: UTF8.self)] + book.lines.dropFirst()
        #expect(fixture.fault(lines)?.reason.contains("begins behind the entry \(after)") == true)
        let report = try Sample.verify(lines, keys: fixture.keys, after: Int64(after))
        #expect(report.after == Int64(after) && report.entries == 363 - Int64(after))
        #expect(throws: ExportFault.self) { try Sample.verify(lines, keys: fixture.keys, after: Int64(after) - 1) }
        #expect(throws: ExportFault.self) { try Sample.verify(fixture.lines, keys: fixture.keys, after: Int64(after)) }
    }

    @Test("tags that are taken away, added or changed are noticed at their entry")
    func tags() throws {
        let fixture = try Self.fixture.get()
        for (place, line) in fixture.entryLines.enumerated() where place < 12 {
            let text = fixture.lines[line]
            var changed = fixture.lines
            let pieces = text.split(separator: ",\"tags\":\"", maxSplits: 1)
            if pieces.count == 2 {
                let rest = pieces[1].drop { $0 != "\"" }.dropFirst()
                changed[line] = String(pieces[0] + rest)
                #expect(fixture.fault(changed)?.sequence == Int64(place + 1))
                changed[line] = "\(pieces[0]),\"tags\":\"prod,team-4\"\(rest)"
            } else {
                changed[line] = text.replacing(",\"hash\"", with: ",\"tags\":\"prod\",\"hash\"")
            }
            #expect(fixture.fault(changed)?.sequence == Int64(place + 1))
        }
        let tagged = fixture.lines.filter { $0.contains("\"tags\"") }
        #expect(tagged.count == 90)
    }

    @Test(
        "a file that was hashed anew without the key is noticed between the two heads around the change",
        arguments: 0..<90)
    func forgery(seed: Int) throws {
        let fixture = try Self.fixture.get()
        var random = SplitMix(seed: UInt64(seed) &+ 3_000)
        var entries = fixture.book.entries.map(\.entry)
        let index = Int.random(in: 0..<entries.count, using: &random)
        switch seed % 3 {
        case 0: entries[index].outputTokens -= 1
        case 1: entries.remove(at: index)
        default: entries.insert(Sample.entry(9_999, tenant: 1), at: index)
        }
        let kept = seed % 2 == 0 ? fixture.book.heads : fixture.book.heads.suffix(1)
        let lines = fixture.rehashed(entries, heads: Array(kept))
        let fault = try #require(fixture.fault(lines))
        let before = kept.last { $0.sequence <= Int64(index) }?.sequence ?? 0
        #expect(fault.sequence == before + 1, "changed \(index + 1): \(fault)")
        #expect(fault.sequence <= Int64(index + 1))
    }

    @Test("heads of a forger's own key, of another chain and of another place are noticed")
    func heads() throws {
        let fixture = try Self.fixture.get()
        let forger = try Sample.signer(byte: 66)
        var entries = fixture.book.entries.map(\.entry)
        entries[10].inputTokens = 0
        let forged = fixture.rehashed(entries, heads: [])
        let last = try LedgerEntry.sealed(try ProofJSON(Array(try #require(forged.dropLast().last).utf8)))
        let head = try #require(
            forger.head(of: fixture.book.chain, sequence: last.sequence, hash: last.hash, at: Sample.now))
        let ending = String(decoding: ChainExport.last(count: last.sequence, head: head), as: UTF8.self)
        #expect(fixture.fault(forged.dropLast() + [ending])?.reason.contains("not among the keys") == true)
        // Under the name of the real key.
        let named = SignedHead(
            chain: head.chain, sequence: head.sequence, hash: head.hash, signedAt: head.signedAt,
            keyID: fixture.book.signer.id, signature: head.signature)
        let second = String(decoding: ChainExport.last(count: last.sequence, head: named), as: UTF8.self)
        #expect(fixture.fault(forged.dropLast() + [second])?.reason.contains("does not hold") == true)
        for (index, line) in fixture.lines.enumerated() where line.contains("\"object\":\"head\"") && index % 2 == 0 {
            var lines = fixture.lines
            lines[index] = String(decoding: fixture.foreign.heads[0].json, as: UTF8.self)
            #expect(fixture.fault(lines) != nil)
        }
    }

    @Test("input of somebody hostile is an error and nothing else", arguments: 0..<90)
    func hostile(seed: Int) throws {
        let fixture = try Self.fixture.get()
        var random = SplitMix(seed: UInt64(seed) &+ 4_000)
        var lines = fixture.lines
        let line = lines.indices.randomElement(using: &random) ?? 0
        var bytes = Array(lines[line].utf8)
        switch seed % 6 {
        case 0: bytes = Array(bytes.prefix(Int.random(in: 0..<bytes.count, using: &random)))
        case 1: bytes = Array(String(repeating: "[", count: 100_000).utf8)
        case 2: bytes.append(contentsOf: bytes)
        case 3: bytes = Array("{\"object\":\"ledger_entry\",\"object\":\"ledger_entry\"}".utf8)
        case 4: bytes.insert(contentsOf: Array(",\"extra\":1".utf8), at: bytes.count - 1)
        default: bytes = (0..<200).map { _ in UInt8.random(in: 0...255, using: &random) }
        }
        var verifier = ExportVerifier<LedgerEntry>(keys: fixture.keys)
        var fault: ExportFault?
        do throws(ExportFault) {
            for index in lines.indices { try verifier.take(index == line ? bytes : Array(lines[index].utf8)) }
            _ = try verifier.finish()
        } catch {
            fault = error
        }
        lines = []
        #expect(fault != nil, "\(String(decoding: bytes.prefix(300), as: UTF8.self))")
    }

    /// Where the characters of the values stand that are texts or numbers, the name of the object left out.
    private static func placesOfValues(_ line: [UInt8]) -> [Int] {
        var places: [Int] = []
        var (inString, isValue, start) = (false, false, 0)
        for (index, byte) in line.enumerated() {
            if byte == UInt8(ascii: "\"") {
                inString.toggle()
                start = index
                continue
            }
            if !inString, byte == UInt8(ascii: ":") { isValue = true }
            if !inString, byte == UInt8(ascii: ",") { isValue = false }
            guard isValue, index > 25, start > 0 else { continue }
            let isLetter = (0x61...0x7A).contains(byte)
            if (0x30...0x39).contains(byte) || inString && isLetter { places.append(index) }
        }
        return places
    }

    private static func other(than byte: UInt8, using random: inout SplitMix) -> UInt8 {
        (0x30...0x39).contains(byte)
            ? UInt8.random(in: 0x30...0x39, using: &random) : UInt8.random(in: 0x61...0x7A, using: &random)
    }
}

/// SplitMix64: the same numbers in every run.
struct SplitMix: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var word = state
        word = (word ^ word >> 30) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ word >> 27) &* 0x94D0_49BB_1331_11EB
        return word ^ word >> 31
    }
}
