internal import CLibPQ
internal import Glibc

/// What every session does with its socket: waiting with a deadline, and turning libpq's reports into errors.
enum PostgresWire {
    /// PG_DIAG_SEVERITY_NONLOCALIZED and its neighbours of postgres_ext.h are character macros, which Swift does not
    /// import.
    static let severityField = Int32(UInt8(ascii: "V"))
    static let sqlStateField = Int32(UInt8(ascii: "C"))
    static let primaryField = Int32(UInt8(ascii: "M"))
    static let constraintField = Int32(UInt8(ascii: "n"))
    static let functionField = Int32(UInt8(ascii: "R"))

    // MARK: Opening

    /// Connects within the deadline and makes the connection non-blocking.
    static func open(_ configuration: PostgresConfiguration) throws(PostgresError) -> OpaquePointer {
        let deadline = Deadline(afterMilliseconds: configuration.connectTimeoutMilliseconds)
        guard let connection = start(configuration) else {
            throw PostgresError(.connectionFailed, "libpq has no memory for a connection")
        }
        do throws(PostgresError) {
            // The SQLSTATE of a refused connection is to be had from the verbose text only.
            PQsetErrorVerbosity(connection, PQERRORS_VERBOSE)
            try finish(connection, until: deadline)
            PQsetErrorVerbosity(connection, PQERRORS_DEFAULT)
            // libpq's own processor prints to standard error.
            PQsetNoticeProcessor(connection, { _, _ in }, nil)
            guard PQsetnonblocking(connection, 1) == 0 else {
                throw PostgresError(.connectionFailed, "the socket cannot be made non-blocking")
            }
            return connection
        } catch {
            PQfinish(connection)
            throw error
        }
    }

    private static func start(_ configuration: PostgresConfiguration) -> OpaquePointer? {
        let keywords = configuration.connectionKeywords
        var names = keywords.map { strdup($0.0) }
        var values = keywords.map { strdup($0.1) }
        defer { for text in names + values { free(text) } }
        names.append(nil)
        values.append(nil)
        return PQconnectStartParams(names.map { UnsafePointer($0) }, values.map { UnsafePointer($0) }, 0)
    }

    private static func finish(_ connection: OpaquePointer, until deadline: Deadline) throws(PostgresError) {
        guard PQstatus(connection) != CONNECTION_BAD else { throw refused(connection) }
        var wanted = Int16(POLLOUT)
        while true {
            // The number of the socket can change between attempts, when a name has several addresses.
            guard try wait(PQsocket(connection), for: wanted, until: deadline) != 0 else {
                throw PostgresError(.timedOut, "the server did not accept the connection in time")
            }
            switch PQconnectPoll(connection) {
            case PGRES_POLLING_OK: return
            case PGRES_POLLING_READING: wanted = Int16(POLLIN)
            case PGRES_POLLING_WRITING: wanted = Int16(POLLOUT)
            default: throw refused(connection)
            }
        }
    }

    private static func refused(_ connection: OpaquePointer) -> PostgresError {
        let detail = lastMessage(connection)
        let sqlState = detail.flatMap(sqlState(inVerboseMessage:))
        let reason = sqlState.map(PostgresError.message(forSQLState:)) ?? "the server cannot be reached"
        return PostgresError(.connectionFailed, "no connection: \(reason)", sqlState: sqlState, detail: detail)
    }

    /// Finds `28P01` in `FATAL:  28P01: password authentication failed ...`.
    static func sqlState(inVerboseMessage text: String) -> String? {
        let bytes = Array(text.utf8)
        let isStateByte = { (byte: UInt8) in (byte >= 48 && byte <= 57) || (byte >= 65 && byte <= 90) }
        guard bytes.count >= 9 else { return nil }
        for start in 0...(bytes.count - 9)
        where bytes[start..<start + 3].elementsEqual(":  ".utf8) && bytes[start + 8] == UInt8(ascii: ":")
            && bytes[start + 3..<start + 8].allSatisfy(isStateByte)
        {
            return String(decoding: bytes[start + 3..<start + 8], as: UTF8.self)
        }
        return nil
    }

    // MARK: Waiting

    /// The events that are ready, 0 when the deadline passed first.
    static func wait(_ socket: Int32, for events: Int16, until deadline: Deadline) throws(PostgresError) -> Int16 {
        var entry = pollfd(fd: socket, events: events, revents: 0)
        while true {
            let count = poll(&entry, 1, deadline.remainingMilliseconds)
            if count > 0 { return entry.revents }
            if count == 0 {
                if deadline.remainingMilliseconds == 0 { return 0 }
            } else if errno != EINTR {
                throw PostgresError(.connectionLost, "waiting for the socket failed", outcomeUnknown: true)
            }
        }
    }

    /// Reads what an idle server has sent and tells whether it still listens.
    static func isAlive(_ connection: OpaquePointer) -> Bool {
        // An idle server sends at most notices, settings and notifications; a few reads take all of that or meet the
        // end.
        for _ in 0..<4 {
            guard PQstatus(connection) == CONNECTION_OK else { return false }
            var entry = pollfd(fd: PQsocket(connection), events: Int16(POLLIN), revents: 0)
            guard poll(&entry, 1, 0) > 0 else { return true }
            if entry.revents & Int16(POLLHUP | POLLERR | POLLNVAL) != 0 { return false }
            guard PQconsumeInput(connection) == 1 else { return false }
        }
        return PQstatus(connection) == CONNECTION_OK
    }

    /// Sends what is queued and takes the next result. Reads while it sends, so that a server that waits for us to read
    /// cannot keep us from sending.
    ///
    /// - Parameter isSync: the result is a synchronisation point, which no NULL follows.
    /// - Throws: `.timedOut` after that long without a byte in either direction; `.connectionLost`.
    static func receive(
        _ connection: OpaquePointer, timeoutMilliseconds: Int, isSync: Bool = false
    ) throws(PostgresError) -> OpaquePointer {
        var kept: OpaquePointer?
        var emptyCount = 0
        while true {
            do throws(PostgresError) {
                try awaitInput(connection, timeoutMilliseconds: timeoutMilliseconds)
            } catch {
                PQclear(kept)
                throw error
            }
            if let result = PQgetResult(connection) {
                if isFatal(result) || PQstatus(connection) == CONNECTION_BAD {
                    let error = lost(connection, outcomeUnknown: true, result: result)
                    PQclear(result)
                    PQclear(kept)
                    throw error
                }
                PQclear(kept)
                kept = result
                if isSync || isCopy(result) { return result }
            } else if let kept {
                return kept
            } else {
                // A NULL without a result ahead of it belongs to the previous statement; more than that is a lost
                // place.
                emptyCount += 1
                if emptyCount > 2 || PQstatus(connection) == CONNECTION_BAD {
                    throw lost(connection, outcomeUnknown: true)
                }
            }
        }
    }

    /// Returns when `PQgetResult` will not block.
    static func awaitInput(_ connection: OpaquePointer, timeoutMilliseconds: Int) throws(PostgresError) {
        while true {
            let unsent = PQflush(connection)
            // A failed write is not the end: the server's reason may be waiting to be read.
            guard PQisBusy(connection) == 1 else { return }
            let wanted = Int16(POLLIN) | (unsent == 1 ? Int16(POLLOUT) : 0)
            let ready = try wait(
                PQsocket(connection), for: wanted, until: Deadline(afterMilliseconds: timeoutMilliseconds))
            guard ready != 0 else {
                throw PostgresError(.timedOut, "the server was silent for too long", outcomeUnknown: true)
            }
            if ready & ~Int16(POLLOUT) != 0, PQconsumeInput(connection) != 1 {
                // Results that came ahead of the end can still be taken.
                guard PQisBusy(connection) == 1 else { return }
                throw lost(connection, outcomeUnknown: true)
            }
        }
    }

    // MARK: Errors

    static func lastMessage(_ connection: OpaquePointer) -> String? {
        guard let text = PQerrorMessage(connection).map({ String(cString: $0) }), !text.isEmpty else { return nil }
        return text.last == "\n" ? String(text.dropLast()) : text
    }

    static func field(_ result: OpaquePointer, _ code: Int32) -> String? {
        PQresultErrorField(result, code).map { String(cString: $0) }
    }

    private static func isCopy(_ result: OpaquePointer) -> Bool {
        switch PQresultStatus(result) {
        case PGRES_COPY_IN, PGRES_COPY_OUT, PGRES_COPY_BOTH: true
        default: false
        }
    }

    static func isFatal(_ result: OpaquePointer) -> Bool {
        guard PQresultStatus(result) == PGRES_FATAL_ERROR else { return false }
        let severity = field(result, severityField)
        return severity == "FATAL" || severity == "PANIC"
    }

    static func lost(
        _ connection: OpaquePointer, outcomeUnknown: Bool, result: OpaquePointer? = nil
    ) -> PostgresError {
        PostgresError(
            .connectionLost, "the connection to the server was lost",
            sqlState: result.flatMap { field($0, sqlStateField) },
            detail: result.flatMap { field($0, primaryField) } ?? lastMessage(connection),
            outcomeUnknown: outcomeUnknown)
    }

    /// The error that a result stands for; nil for a good one, and for one that was skipped because of an earlier
    /// error.
    static func error(of result: OpaquePointer, _ statement: any PostgresStatement.Type) -> PostgresError? {
        error(of: result)?.named(statement.name)
    }

    static func error(of result: OpaquePointer) -> PostgresError? {
        switch PQresultStatus(result) {
        case PGRES_COMMAND_OK, PGRES_TUPLES_OK, PGRES_EMPTY_QUERY, PGRES_PIPELINE_ABORTED, PGRES_PIPELINE_SYNC:
            return nil
        case PGRES_FATAL_ERROR, PGRES_BAD_RESPONSE:
            guard let sqlState = field(result, sqlStateField) else {
                // libpq's own complaint: the answer was not understood.
                let detail = PQresultErrorMessage(result).map { String(cString: $0) }
                return PostgresError(
                    .protocolViolation, "the answer was not understood", detail: detail, outcomeUnknown: true)
            }
            return PostgresError(
                .serverError, PostgresError.message(forSQLState: sqlState), sqlState: sqlState,
                constraintName: field(result, constraintField), detail: field(result, primaryField))
        default:
            return PostgresError(
                .protocolViolation, "the statement started something else than a query", outcomeUnknown: true)
        }
    }
}
