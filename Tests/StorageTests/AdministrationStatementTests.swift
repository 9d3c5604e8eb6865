import PostgresDriver
import Storage
import TestSupport
import Testing

@Suite("Statements of the administration")
struct AdministrationStatementTests {
    @Test("the server understands every statement as it is declared, under the role that runs it")
    func describe() async throws {
        try await AdministrationHarness.with { harness in
            try await harness.pool.withConnection { connection in
                for type in AdministrationStatements.all + BillingStatements.all { try await check(type, connection) }
            }
        }
    }

    private func check<S: PostgresStatement>(_ type: S.Type, _ connection: PostgresConnection) async throws {
        let described = try await connection.describe(type)
        #expect(described.parameterTypes == S.parameters.map(\.rawValue), "\(S.name)")
        #expect(described.columnTypes == S.columns.map(\.rawValue) || S.columns.isEmpty, "\(S.name)")
    }

    @Test("no two statements have one name")
    func names() {
        let names = AdministrationStatements.all.map { $0.name }
        #expect(Set(names).count == names.count)
    }
}
