internal import CLibPQ

extension PostgresSession {
    /// Runs SQL text of any number of statements by the simple protocol. For migrations and for setting up tests, where
    /// the text is a file of ours; nothing that came from outside may become a part of it.
    ///
    /// Outside a transaction the whole text is one implicit transaction, unless it says otherwise itself.
    ///
    /// - Parameter answerTimeoutMilliseconds: how long one statement of it may take, instead of the configured answer
    ///   timeout.
    /// - Throws: the first error of the server; the session stays usable unless the connection is lost.
    public func run(script: String, answerTimeoutMilliseconds: Int? = nil) throws(PostgresError) {
        try checkAlive()
        guard let connection else { return }
        guard !script.utf8.contains(0) else { throw PostgresError(.encoding, "the script has a NUL byte") }
        let timeout = answerTimeoutMilliseconds ?? configuration.answerTimeoutMilliseconds
        do throws(PostgresError) {
            try leavePipeline(connection)
            guard PQsendQuery(connection, script) == 1 else {
                throw PostgresWire.lost(connection, outcomeUnknown: true)
            }
            var failure: PostgresError?
            while let result = try PostgresWire.nextResult(connection, timeoutMilliseconds: timeout) {
                defer { PQclear(result) }
                if let error = PostgresWire.error(of: result) {
                    // A COPY within a script has nobody to feed or read it.
                    if error.code == .protocolViolation { throw error }
                    failure = failure ?? error
                }
            }
            if let failure { throw failure }
        } catch {
            if error.code != .serverError { close() }
            throw error
        }
    }

    /// Scripts and COPY do not exist in pipeline mode.
    func leavePipeline(_ connection: OpaquePointer) throws(PostgresError) {
        guard PQpipelineStatus(connection) != PQ_PIPELINE_OFF else { return }
        guard PQexitPipelineMode(connection) == 1 else {
            throw PostgresError(
                .protocolViolation, "the pipeline cannot be left", detail: PostgresWire.lastMessage(connection))
        }
    }
}

extension PostgresWire {
    /// The next result outside pipeline mode, nil when the command is done.
    static func nextResult(
        _ connection: OpaquePointer, timeoutMilliseconds: Int
    ) throws(PostgresError) -> OpaquePointer? {
        try awaitInput(connection, timeoutMilliseconds: timeoutMilliseconds)
        guard let result = PQgetResult(connection) else {
            if PQstatus(connection) == CONNECTION_BAD { throw lost(connection, outcomeUnknown: true) }
            return nil
        }
        if isFatal(result) || PQstatus(connection) == CONNECTION_BAD {
            defer { PQclear(result) }
            throw lost(connection, outcomeUnknown: true, result: result)
        }
        return result
    }
}
