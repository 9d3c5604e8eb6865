import PostgresDriver
import TestSupport
import Testing

@Suite("a session on a real server")
struct PostgresSessionTests {
    @Test("connects, selects and closes")
    func selectsOne() async throws {
        try await withSession { session in
            try #expect(session.execute(SelectOne()) == [1])
            #expect(session.isConnected)
            session.close()
            #expect(!session.isConnected)
        }
    }
}

struct SelectOne: PostgresStatement {
    static let sql = "SELECT 1::int8"
    static let columns: [PostgresType] = [.int8]
    static func row(from row: inout PostgresRow) throws(PostgresError) -> Int64 { try row.int64() }
}
