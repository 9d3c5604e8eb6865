import Testing

@testable import Domain

@Suite("What can be exported")
struct ExportQueryTests {
    private static let start = Timestamp(microsecondsSince1970: 1_772_323_200_000_000)

    private func query(
        _ format: ExportFormat, _ granularity: ExportGranularity?, milliseconds: Int64 = 86_400_000, offset: Int64 = 0
    ) throws -> ExportQuery {
        let start = Self.start.advanced(byMilliseconds: offset)
        return try .checked(
            tenantID: nil, format: format, granularity: granularity, start: start,
            end: start.advanced(byMilliseconds: milliseconds))
    }

    @Test("entries are what is meant where nothing is said")
    func entries() throws {
        try #expect(query(.csv, nil).granularity == .entries)
        try #expect(query(.cloudevents, .entries).granularity == .entries)
    }

    @Test("a window has an order and an end")
    func windows() throws {
        _ = try query(.csv, nil, milliseconds: 400 * 86_400_000)
        for milliseconds in [0, -1, 400 * 86_400_000 + 1] as [Int64] {
            #expect(throws: Refusal.self) { try query(.csv, nil, milliseconds: milliseconds) }
        }
    }

    @Test("sums go with CSV and JSON Lines, on quarters of an hour")
    func sums() throws {
        _ = try query(.jsonl, .day)
        for format in [ExportFormat.cloudevents, .focus] {
            #expect(throws: Refusal.self) { try query(format, .hour) }
        }
        #expect(throws: Refusal.self) { try query(.csv, .hour, offset: 1) }
        _ = try query(.csv, .entries, offset: 1)
    }

    @Test("a file of lines ends with their number, and a sheet begins with its columns")
    func edges() throws {
        try #expect(query(.jsonl, nil).trailer(rows: 7) == "{\"object\":\"export_trailer\",\"rows\":7}\n")
        try #expect(query(.csv, nil).trailer(rows: 7).isEmpty)
        try #expect(query(.csv, .day).header.hasPrefix("tenant_id,tenant_name,bucket_start,"))
        try #expect(query(.focus, nil).header.hasPrefix("BilledCost,"))
        try #expect(query(.csv, nil).filename == "weir-csv-entries-20260301-20260302.csv")
    }

    @Test("a comparison is of whole quarters of an hour")
    func scope() {
        let scope = ReconciliationScope(
            tenantID: nil, start: Self.start.advanced(byMilliseconds: 1),
            end: Self.start.advanced(byMilliseconds: 900_001))
        #expect(scope.start == Self.start)
        #expect(scope.end == Self.start.advanced(byMilliseconds: 1_800_000))
        let exact = ReconciliationScope(
            tenantID: nil, start: Self.start, end: Self.start.advanced(byMilliseconds: 900_000))
        #expect(exact.end == Self.start.advanced(byMilliseconds: 900_000))
    }
}
