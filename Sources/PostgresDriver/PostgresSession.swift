internal import CLibPQ
internal import Glibc

/// One connection to the server, with blocking calls, for the thread that owns it. Not `Sendable`: whoever needs it
/// from concurrent code uses `PostgresConnection`.
///
/// All traffic goes through libpq's pipeline mode on a non-blocking socket: a statement and, at its first use, its
/// preparation travel together, and sending never waits while the server waits for us to read, so two full socket
/// buffers cannot deadlock.
public final class PostgresSession {
    /// Where the session stands between `begin` and `commit`.
    public enum TransactionStatus: Sendable, Equatable {
        case idle, inTransaction, inFailedTransaction
        /// A COPY is streaming, or there is no connection.
        case unavailable
    }

    public let configuration: PostgresConfiguration
    /// Rows changed or returned by the last statement of the last call, as the server counts them.
    public private(set) var affectedRows = 0
    /// The same for every statement of the last call, in order.
    public private(set) var affectedRowCounts: [Int] = []

    var connection: OpaquePointer?
    var copyStatementName: String?
    var copyOwnsTransaction = false
    /// Rows that the last COPY has brought so far.
    public internal(set) var copiedRowCount: Int64 = 0
    private var prepared: [ObjectIdentifier: String] = [:]
    private var preparedNames: Set<String> = []
    private var binds = PostgresBinds()
    private var requests: [PostgresRequest] = []
    private var results: [OpaquePointer] = []
    private var pointers: [UnsafePointer<CChar>?] = []
    private var lengths: [Int32] = []
    private var formats: [Int32] = []

    /// A session that is not connected yet.
    public init(configuration: PostgresConfiguration) {
        self.configuration = configuration
    }

    deinit {
        if let connection { PQfinish(connection) }
    }

    public var isConnected: Bool { connection != nil }

    /// The process id of the server's backend, 0 without a connection. For tests and for `pg_terminate_backend`.
    public var backendProcessID: Int32 { connection.map { PQbackendPID($0) } ?? 0 }

    public var transactionStatus: TransactionStatus {
        guard let connection, copyStatementName == nil else { return .unavailable }
        switch PQtransactionStatus(connection) {
        case PQTRANS_IDLE: return .idle
        case PQTRANS_INTRANS: return .inTransaction
        case PQTRANS_INERROR: return .inFailedTransaction
        default: return .unavailable
        }
    }

    // MARK: Opening and closing

    /// Connects and sets the session up: time zone UTC, the timeouts, the role. An existing connection is closed first.
    /// - Throws: `.connectionFailed`; `.timedOut` after the connect timeout; `.serverError` when a setting is refused.
    public func connect() throws(PostgresError) {
        close()
        do throws(PostgresError) {
            connection = try PostgresWire.open(configuration)
            let start = StartSession(configuration: configuration)
            _ = try execute(start)
        } catch {
            close()
            var failure = error
            // Only the session's own settings were sent. A caller who connects in order to send a statement must not
            // take that for sent.
            failure.outcomeUnknown = false
            throw failure
        }
    }

    /// Ends the connection; what was running on it is abandoned. Harmless when there is none.
    public func close() {
        if let connection { PQfinish(connection) }
        connection = nil
        copyStatementName = nil
        prepared.removeAll()
        preparedNames.removeAll()
    }

    /// Finds out, without asking the server, whether it has closed the connection meanwhile.
    /// - Throws: `.connectionLost` with a known outcome, because nothing was sent; `.closed` without a connection;
    ///   `.busy`.
    public func checkAlive() throws(PostgresError) {
        guard let connection else { throw PostgresError(.closed, "the session has no connection") }
        guard copyStatementName == nil else { throw PostgresError(.busy, "the session is streaming a COPY") }
        guard PostgresWire.isAlive(connection) else {
            let detail = PostgresWire.lastMessage(connection)
            close()
            throw PostgresError(.connectionLost, "the server closed the idle connection", detail: detail)
        }
    }

    // MARK: Statements

    /// Runs a statement and reads its rows; outside a transaction it is one of its own.
    public func execute<S: PostgresStatement>(_ statement: S) throws(PostgresError) -> [S.Row] {
        defer { discardResults() }
        try append(statement)
        try runRequests()
        return try rows(of: S.self, at: 0)
    }

    /// Runs a statement and gives the number of rows that it changed.
    public func affectedRows(by statement: some PostgresStatement) throws(PostgresError) -> Int {
        _ = try execute(statement)
        return affectedRows
    }

    /// Runs statements in one round trip with a single synchronisation point. Outside a transaction they are one
    /// implicit transaction: all take effect or none.
    ///
    /// - Throws: the first error of the server; the session stays usable unless the connection is lost. A `.decoding`
    ///   error comes after the statements have taken effect.
    public func pipeline<each S: PostgresStatement>(
        _ statement: repeat each S
    ) throws(PostgresError) -> (repeat [(each S).Row]) {
        defer { discardResults() }
        for statement in repeat each statement {
            try append(statement)
        }
        try runRequests()
        var index = -1
        func next() -> Int {
            index += 1
            return index
        }
        return (repeat try rows(of: (each S).self, at: next()))
    }

    /// Runs any number of statements of one type as `pipeline` does.
    public func pipeline<S: PostgresStatement>(all statements: [S]) throws(PostgresError) -> [[S.Row]] {
        guard !statements.isEmpty else { return [] }
        defer { discardResults() }
        for statement in statements {
            try append(statement)
        }
        try runRequests()
        var rows: [[S.Row]] = []
        rows.reserveCapacity(statements.count)
        for index in statements.indices {
            rows.append(try self.rows(of: S.self, at: index))
        }
        return rows
    }

    /// Starts a transaction.
    public func begin(_ isolation: PostgresIsolation = .readCommitted) throws(PostgresError) {
        switch isolation {
        case .readCommitted: _ = try execute(Begin())
        case .repeatableRead: _ = try execute(BeginRepeatableRead())
        case .serializable: _ = try execute(BeginSerializable())
        case .readOnlySnapshot: _ = try execute(BeginReadOnlySnapshot())
        }
    }

    /// Commits.
    /// - Throws: `.serverError` also when the server turned the commit of a failed transaction into a rollback.
    public func commit() throws(PostgresError) {
        // The server answers COMMIT in a failed transaction with "ROLLBACK" and no error at all.
        let hadFailed = transactionStatus == .inFailedTransaction
        _ = try execute(Commit())
        if hadFailed {
            throw PostgresError(
                .serverError, "the transaction had failed and was rolled back", sqlState: "25P02",
                statementName: Commit.name)
        }
    }

    /// Rolls back.
    public func rollback() throws(PostgresError) {
        _ = try execute(Rollback())
    }

    /// Prepares a statement and asks the server for the types of its parameters and columns.
    public func describe<S: PostgresStatement>(_ type: S.Type) throws(PostgresError) -> PostgresDescription {
        defer { discardResults() }
        try checkAlive()
        requests.append(PostgresRequest(statement: type, values: 0..<0, isDescription: true))
        try runRequests()
        let result = results[0]
        return PostgresDescription(
            parameterTypes: (0..<PQnparams(result)).map { PQparamtype(result, $0) },
            columnTypes: (0..<PQnfields(result)).map { PQftype(result, $0) },
            columnNames: (0..<PQnfields(result)).map { PQfname(result, $0).map { String(cString: $0) } ?? "" })
    }

    // MARK: Sending

    private func append<S: PostgresStatement>(_ statement: S) throws(PostgresError) {
        let start = binds.count
        do {
            try statement.bind(to: &binds)
        } catch {
            throw error.named(S.name)
        }
        if let failure = binds.failure { throw failure.named(S.name) }
        let parameters = S.parameters
        guard binds.count - start == parameters.count else {
            throw PostgresError(
                .encoding, "\(binds.count - start) values are bound to \(parameters.count) parameters",
                statementName: S.name)
        }
        for (index, parameter) in parameters.enumerated()
        where !parameter.isInterchangeable(with: binds.values[start + index].type) {
            throw PostgresError(.encoding, "parameter \(index + 1) is bound with another type", statementName: S.name)
        }
        requests.append(PostgresRequest(statement: S.self, values: start..<binds.count))
    }

    /// Sends what was appended and reads one result per request into `results`.
    private func runRequests() throws(PostgresError) {
        do throws(PostgresError) {
            try checkAlive()
        } catch {
            throw requests.first.map { error.named($0.statement.name) } ?? error
        }
        guard let connection else { return }
        affectedRows = 0
        affectedRowCounts.removeAll(keepingCapacity: true)
        do throws(PostgresError) {
            if PQpipelineStatus(connection) == PQ_PIPELINE_OFF, PQenterPipelineMode(connection) != 1 {
                throw PostgresWire.lost(connection, outcomeUnknown: false)
            }
            var preparing: [(at: Int, name: String)] = []
            for index in requests.indices {
                if let name = try send(requests[index], on: connection) { preparing.append((index, name)) }
            }
            guard PQpipelineSync(connection) == 1 else { throw PostgresWire.lost(connection, outcomeUnknown: true) }
            try readResults(preparing: preparing, on: connection)
        } catch {
            if error.code != .serverError { close() }
            throw error
        }
    }

    /// Queues a request; the name, if its preparation was queued ahead of it.
    private func send(_ request: PostgresRequest, on connection: OpaquePointer) throws(PostgresError) -> String? {
        let key = ObjectIdentifier(request.statement)
        var newName: String?
        let name: String
        if let known = prepared[key] {
            name = known
        } else {
            name = freeName(for: request.statement)
            newName = name
            // Taken at once, so that a second use in the same pipeline does not prepare it again.
            prepared[key] = name
            preparedNames.insert(name)
            let types = request.statement.parameters.map(\.rawValue)
            let sql = "/* \(request.statement.name.replacing("*/", with: "")) */ \(request.statement.sql)"
            guard PQsendPrepare(connection, name, sql, Int32(types.count), types) == 1 else {
                throw PostgresWire.lost(connection, outcomeUnknown: true).named(request.statement.name)
            }
        }
        let isQueued =
            request.isDescription
            ? PQsendDescribePrepared(connection, name) == 1 : sendValues(request, name, connection)
        guard isQueued else { throw PostgresWire.lost(connection, outcomeUnknown: true).named(request.statement.name) }
        return newName
    }

    private func sendValues(_ request: PostgresRequest, _ name: String, _ connection: OpaquePointer) -> Bool {
        binds.bytes.withUnsafeBufferPointer { buffer in
            buffer.withMemoryRebound(to: CChar.self) { characters in
                pointers.removeAll(keepingCapacity: true)
                lengths.removeAll(keepingCapacity: true)
                formats.removeAll(keepingCapacity: true)
                for value in binds.values[request.values] {
                    pointers.append(value.length < 0 ? nil : characters.baseAddress.map { $0 + value.offset })
                    lengths.append(max(value.length, 0))
                    formats.append(1)
                }
                return PQsendQueryPrepared(connection, name, Int32(pointers.count), pointers, lengths, formats, 1) == 1
            }
        }
    }

    /// Statement names are cut to 63 bytes by the server, silently; two that are equal up to there get a number.
    private func freeName(for statement: any PostgresStatement.Type) -> String {
        let base = String(decoding: statement.name.utf8.prefix(48), as: UTF8.self)
        var name = base
        var number = 1
        while preparedNames.contains(name) {
            number += 1
            name = "\(base)#\(number)"
        }
        return name
    }

    // MARK: Receiving

    private func readResults(
        preparing: [(at: Int, name: String)], on connection: OpaquePointer
    ) throws(PostgresError) {
        var failure: PostgresError?
        var pending = preparing[...]
        for (index, request) in requests.enumerated() {
            if let preparation = pending.first, preparation.at == index {
                pending.removeFirst()
                let result = try receive(request, on: connection)
                defer { PQclear(result) }
                if PQresultStatus(result) != PGRES_COMMAND_OK {
                    prepared[ObjectIdentifier(request.statement)] = nil
                    preparedNames.remove(preparation.name)
                }
                if let error = PostgresWire.error(of: result, request.statement) { failure = failure ?? error }
            }
            let result = try receive(request, on: connection)
            results.append(result)
            count(result)
            if let error = PostgresWire.error(of: result, request.statement) {
                if error.code == .protocolViolation { throw error }
                failure = failure ?? error
                forgetIfStale(result, request)
            }
        }
        let commitFailure = try receiveSync(on: connection)
        if let failure = failure ?? commitFailure { throw failure }
    }

    private func receive(_ request: PostgresRequest, on connection: OpaquePointer) throws(PostgresError)
        -> OpaquePointer
    {
        do {
            return try PostgresWire.receive(connection, timeoutMilliseconds: configuration.answerTimeoutMilliseconds)
        } catch {
            throw error.named(request.statement.name)
        }
    }

    /// - Returns: the error of the commit, which belongs to no statement and comes ahead of the synchronisation point: a
    ///   deferred constraint, for example.
    private func receiveSync(on connection: OpaquePointer) throws(PostgresError) -> PostgresError? {
        var failure: PostgresError?
        while true {
            let result = try PostgresWire.receive(
                connection, timeoutMilliseconds: configuration.answerTimeoutMilliseconds, isSync: true)
            defer { PQclear(result) }
            if PQresultStatus(result) == PGRES_PIPELINE_SYNC { return failure }
            guard failure == nil, let error = PostgresWire.error(of: result), error.code == .serverError else {
                throw PostgresError(.protocolViolation, "the server did not close the pipeline", outcomeUnknown: true)
            }
            failure = requests.last.map { error.named($0.statement.name) } ?? error
        }
    }

    private func count(_ result: OpaquePointer) {
        affectedRows = PQcmdTuples(result).flatMap { Int(String(cString: $0)) } ?? 0
        affectedRowCounts.append(affectedRows)
    }

    /// After a change of the schema or a DISCARD the prepared statement is useless; the next use prepares it anew under
    /// another name.
    private func forgetIfStale(_ result: OpaquePointer, _ request: PostgresRequest) {
        let state = PostgresWire.field(result, PostgresWire.sqlStateField)
        let isReplanned = PostgresWire.field(result, PostgresWire.functionField) == "RevalidateCachedQuery"
        if state == "26000" || (state == "0A000" && isReplanned) {
            prepared[ObjectIdentifier(request.statement)] = nil
        }
    }

    private func discardResults() {
        for result in results { PQclear(result) }
        results.removeAll(keepingCapacity: true)
        requests.removeAll(keepingCapacity: true)
        binds.removeAll()
        binds.shrink(above: 4 << 20)
    }

    private func rows<S: PostgresStatement>(of type: S.Type, at index: Int) throws(PostgresError) -> [S.Row] {
        let columns = S.columns
        guard !columns.isEmpty else { return [] }
        let result = results[index]
        guard PQresultStatus(result) == PGRES_TUPLES_OK, PQnfields(result) == columns.count else {
            throw PostgresError(
                .decoding, "the result has \(PQnfields(result)) columns, not \(columns.count)", statementName: S.name)
        }
        for (column, declared) in columns.enumerated() {
            guard let actual = PostgresType(rawValue: PQftype(result, Int32(column))),
                actual.isInterchangeable(with: declared)
            else {
                throw PostgresError(.decoding, "column \(column) has another type than declared", statementName: S.name)
            }
        }
        let count = PQntuples(result)
        var rows: [S.Row] = []
        rows.reserveCapacity(Int(count))
        for position in 0..<count {
            var row = PostgresRow(result: result, index: position, columns: columns, statement: S.self)
            do {
                rows.append(try S.row(from: &row))
            } catch {
                throw error.named(S.name)
            }
        }
        return rows
    }
}

@available(*, unavailable)
extension PostgresSession: Sendable {}

/// One statement of a call: which, and where its values are in the shared binds.
struct PostgresRequest {
    let statement: any PostgresStatement.Type
    let values: Range<Int>
    var isDescription = false
}
