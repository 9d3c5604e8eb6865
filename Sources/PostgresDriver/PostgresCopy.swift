internal import CLibPQ
internal import Glibc

/// A `COPY (SELECT ...) TO STDOUT`, the fastest way to read very many rows.
///
/// COPY takes no bound parameters. Values travel as settings that hold until the end of the COPY's transaction, and the
/// query reads them back with `current_setting`, so that nothing is ever spliced into the text:
///
///     struct ExportUsage: PostgresCopyStatement {
///         static let sql = """
///             COPY (SELECT ... WHERE tenant_id = current_setting('weir.copy_tenant')::uuid)
///             TO STDOUT (FORMAT csv, HEADER true)
///             """
///         let tenant: PostgresUUID
///         var settings: [PostgresLocalSetting] { [PostgresLocalSetting("weir.copy_tenant", "\(tenant)")] }
///     }
public protocol PostgresCopyStatement: Sendable {
    /// As for `PostgresStatement`.
    static var name: String { get }
    static var sql: String { get }
    /// The values that the query reads. Names must have a dot.
    var settings: [PostgresLocalSetting] { get }
}

extension PostgresCopyStatement {
    public static var name: String { defaultStatementName(of: Self.self) }
    public var settings: [PostgresLocalSetting] { [] }
}

extension PostgresSession {
    /// Whether a COPY is streaming.
    public var isCopying: Bool { copyStatementName != nil }

    /// Starts a COPY; `nextCopyChunk` then reads it. Outside a transaction it gets one of its own.
    /// - Throws: `.serverError` when the server refuses it; the session stays usable.
    public func beginCopyOut<S: PostgresCopyStatement>(_ statement: S) throws(PostgresError) {
        try checkAlive()
        guard let connection else { return }
        let ownsTransaction = transactionStatus == .idle
        if ownsTransaction { try begin() }
        do throws(PostgresError) {
            _ = try pipeline(all: statement.settings)
            try leavePipeline(connection)
            try startCopy(S.sql, name: S.name, on: connection)
            copyStatementName = S.name
            copyOwnsTransaction = ownsTransaction
            copiedRowCount = 0
        } catch {
            if isConnected, ownsTransaction { try rollback() }
            throw error.named(S.name)
        }
    }

    private func startCopy(_ sql: String, name: String, on connection: OpaquePointer) throws(PostgresError) {
        guard PQsendQuery(connection, "/* \(name.replacing("*/", with: "")) */ \(sql)") == 1 else {
            close()
            throw PostgresError(.connectionLost, "the COPY could not be sent", outcomeUnknown: false)
        }
        do throws(PostgresError) {
            let timeout = configuration.answerTimeoutMilliseconds
            guard let result = try PostgresWire.nextResult(connection, timeoutMilliseconds: timeout) else {
                throw PostgresError(.protocolViolation, "the COPY was not answered")
            }
            defer { PQclear(result) }
            if PQresultStatus(result) == PGRES_COPY_OUT { return }
            // Anything but a COPY to us: read to the end, then say so.
            let failure = PostgresWire.error(of: result)
            if failure?.code == .protocolViolation {
                throw PostgresError(.protocolViolation, "the statement is a COPY in the other direction")
            }
            try drain(connection)
            throw failure ?? PostgresError(.copyFailed, "the statement is not a COPY")
        } catch {
            if error.code != .serverError, error.code != .copyFailed { close() }
            throw error
        }
    }

    /// The next rows of the COPY: as many whole rows as are there, at most a little over `targetBytes`. Nil at the end.
    /// - Throws: `.serverError` when the query failed half-way; `.connectionLost`, `.timedOut`: the connection is
    ///   closed.
    public func nextCopyChunk(targetBytes: Int = 65_536) throws(PostgresError) -> [UInt8]? {
        guard let connection, let name = copyStatementName else { return nil }
        var chunk: [UInt8] = []
        chunk.reserveCapacity(targetBytes + 4_096)
        while chunk.count < targetBytes {
            var row: UnsafeMutablePointer<CChar>?
            let count = PQgetCopyData(connection, &row, 1)
            if count > 0, let row {
                chunk.append(contentsOf: UnsafeRawBufferPointer(start: row, count: Int(count)))
                PQfreemem(row)
                copiedRowCount += 1
            } else if count == 0 {
                if !chunk.isEmpty { return chunk }
                try awaitCopyData(connection, name: name)
            } else {
                try finishCopy(connection, name: name, isBroken: count == -2)
                return chunk.isEmpty ? nil : chunk
            }
        }
        return chunk
    }

    private func awaitCopyData(_ connection: OpaquePointer, name: String) throws(PostgresError) {
        let deadline = Deadline(afterMilliseconds: configuration.answerTimeoutMilliseconds)
        let ready: Int16
        do throws(PostgresError) {
            ready = try PostgresWire.wait(PQsocket(connection), for: Int16(POLLIN), until: deadline)
        } catch {
            close()
            throw error.named(name)
        }
        if ready == 0 {
            close()
            throw PostgresError(.timedOut, "the server was silent for too long", statementName: name)
        }
        // A failure shows as the end of the COPY with an error behind it.
        _ = PQconsumeInput(connection)
        if PQstatus(connection) == CONNECTION_BAD {
            let error = PostgresWire.lost(connection, outcomeUnknown: false).named(name)
            close()
            throw error
        }
    }

    private func finishCopy(_ connection: OpaquePointer, name: String, isBroken: Bool) throws(PostgresError) {
        copyStatementName = nil
        do throws(PostgresError) {
            if isBroken {
                let detail = PostgresWire.lastMessage(connection)
                throw PostgresError(.copyFailed, "the COPY broke off", detail: detail)
            }
            try drain(connection)
            if copyOwnsTransaction { try commit() }
        } catch {
            if error.code == .serverError, isConnected {
                if copyOwnsTransaction { try rollback() }
            } else {
                close()
            }
            throw error.named(name)
        }
    }

    /// Reads the remaining results of a simple query.
    private func drain(_ connection: OpaquePointer) throws(PostgresError) {
        var failure: PostgresError?
        while let result = try PostgresWire.nextResult(
            connection, timeoutMilliseconds: configuration.answerTimeoutMilliseconds)
        {
            defer { PQclear(result) }
            failure = failure ?? PostgresWire.error(of: result)
        }
        if let failure { throw failure }
    }
}
